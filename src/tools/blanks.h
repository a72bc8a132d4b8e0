// White space, as formats and JSON have it.
#pragma once

#include <string_view>

namespace llorch::tools {

inline constexpr std::string_view kBlanks = " \t\r\n";
[[nodiscard]] constexpr bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace llorch::tools
