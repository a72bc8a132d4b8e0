// Finds what two texts share, and cuts markers where a reader would.
//
// Rendered texts only show markers side by side: whether a character that two of them share ends one or begins the next
// cannot be seen, and either reading gives the same texts. So where there is a choice, cuts are put behind closing
// punctuation. Pure functions over valid UTF-8; cuts are between characters.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tools/format.h"

namespace llorch::tools {

/// How many bytes two texts share at their front; at their end.
[[nodiscard]] std::size_t shared_front(std::string_view a, std::string_view b);
[[nodiscard]] std::size_t shared_end(std::string_view a, std::string_view b);
[[nodiscard]] std::string_view without_leading_blanks(std::string_view text);

/// What is known of the text around one place for arguments. Names and ids are their marks (tools/probe.h).
struct Around {
  std::string before;               // from the first byte of the block
  std::string after;                // to the end of the message
  std::optional<std::string> step;  // to the arguments of the next call, where there can be one
  std::string end_of_message;       // what stands behind a message without calls
};
/// Fills lead, open, call, between and close.
void split_block(const Around& around, ToolFormat& format);

/// The end of a value: `next` follows up to the name of the next parameter, `last` behind the last one. `before` leads
/// to the first name, `none` is all of a call without any behind its name.
struct ValueEnds {
  std::string_view before, next, last, none;
};
/// How many bytes of `next` (and of `last`) belong to the value's end.
[[nodiscard]] std::size_t value_end(const ValueEnds& ends);

[[nodiscard]] Pieces pieces_of(std::string_view marked_text);

}  // namespace llorch::tools
