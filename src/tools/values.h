// Values of arguments that are written one by one: from the model's notation to JSON.
//
// Threads: any. Errors: none; what cannot be read is a string.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tools/format.h"
#include "tools/json_scanner.h"

namespace llorch::tools {

/// A value that was written as it is, as JSON: a string where `types` (toolset/toolset.h) allow no other value, or
/// where it is no other one that they allow.
[[nodiscard]] std::string json_of_raw(std::string_view text, std::uint8_t types);
/// A value of Parameters::Values::kNotation as JSON. nullopt: it is none.
[[nodiscard]] std::optional<std::string> json_of_notation(std::string_view text, const Parameters& p);
/// Follows a value of the notation byte by byte and says where it ends. A word or number ends before `,`, `}`, `]`, `)`
/// and white space.
class NotationScanner {
 public:
  explicit NotationScanner(const Parameters& p) : open_(p.quote_open), close_(p.quote_close) {}
  /// kMore, kDone or kBehind; kBad beyond a hundred levels.
  JsonScanner::Step feed(char c);

 private:
  std::string_view open_, close_;
  std::string begun_;  // of a quote
  int depth_ = 0;
  bool quoted_ = false, any_ = false;
};

}  // namespace llorch::tools
