// Takes a model's text apart into text and calls of tools, while it comes.
//
// Push it as it is made, at any split; what comes out, joined, is the same for every split. Text is held back only
// while it may still become the beginning of a call, and white space until it is known that no call follows it. A call
// whose name is not declared, or that turns out to be none before its arguments begin, comes out as text, byte by byte;
// once begun, a call stays one, and one that is malformed or cut off ends with `complete` false.
//
// Where the vocabulary has a marker as a control token, only that token counts: `controls` lists the spellings of all
// control tokens that the format's texts hold (ToolFormat::holds()), and push() takes the spelling of each that comes.
// Control tokens that belong to no call come out as items of their own, so that who follows (a splitter of channels,
// say) sees them. Reasoning that stands between marks of text is taken out before; channels behind this parser.
// Ownership: copies what it is given. Threads: one. Errors: none: any text has items.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/format.h"
#include "toolset/toolset.h"

namespace llorch::tools {

struct Item {
  enum class Kind : std::uint8_t {
    kText,       // `text`
    kControl,    // a control token that is no part of a call: its spelling in `text`
    kCallBegin,  // `index`, `name`, and `id` where the model writes it in front
    kArguments,  // of call `index`: a further piece of JSON text
    kCallEnd     // `complete`; `id` where the model writes it behind
  };
  Kind kind = Kind::kText;
  std::string text, name, id;
  int index = 0;
  bool complete = true;
  bool operator==(const Item&) const = default;
};
using Items = std::vector<Item>;

class ToolCallParser {
 public:
  ToolCallParser(const ToolFormat& format, std::vector<DeclaredTool> tools, std::vector<std::string> controls = {});
  ~ToolCallParser();
  ToolCallParser(ToolCallParser&&) noexcept;
  ToolCallParser& operator=(ToolCallParser&&) noexcept;

  /// `text` of the next token, or a part of it; `control`: its spelling where it is a control token.
  [[nodiscard]] Items push(std::string_view text, std::string_view control = {});
  /// The text has ended: what was held back.
  [[nodiscard]] Items finish();
  /// Inside of a call, from its first byte that cannot be text any more.
  [[nodiscard]] bool in_call() const;

 private:
  class Machine;
  std::unique_ptr<Machine> machine_;
};

/// Neighbouring pieces joined: what one push of everything gives.
void append(Items& to, Items more);

}  // namespace llorch::tools
