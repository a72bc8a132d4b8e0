// UTF-8 validation. Source: RFC 3629. Decoding and streams: text/utf8.h.
#pragma once

#include <cstddef>
#include <string_view>

namespace llorch {

/// Length of the valid sequence at the front of `text`: 1..4; 0 when it is invalid; -1 when it is a valid beginning
/// that is cut off.
[[nodiscard]] int utf8_sequence(std::string_view text);
[[nodiscard]] bool utf8_valid(std::string_view text);

}  // namespace llorch
