// A compiled Unicode pattern (PCRE2, JIT where the machine has it) with bounded matching.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace llorch {

class Regex {
 public:
  [[nodiscard]] static Result<Regex> compile(std::string_view pattern);

  /// Calls found(begin, end) for each match from left to right. `text` must be valid UTF-8.
  /// Errors: kInvalidRequest when matching exceeds its budget.
  [[nodiscard]] Status each(std::string_view text, const std::function<void(std::size_t, std::size_t)>& found) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace llorch
