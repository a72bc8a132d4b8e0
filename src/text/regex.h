// A compiled Unicode pattern (PCRE2, JIT where the machine has it) with bounded matching.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/work_limit.h"

namespace llorch {

class Regex {
 public:
  /// `known`: a pattern of ours, whose time is in proportion to any text. Others get their starts in portions.
  [[nodiscard]] static Result<Regex> compile(std::string_view pattern, bool known = false);

  using Found = std::function<Status(std::size_t begin, std::size_t end)>;
  /// Calls found(begin, end) for each match from left to right, until it fails. `text` must be valid UTF-8. The limit
  /// is looked at after each call of PCRE2, and each such call is bounded. Errors: kInvalidRequest when matching
  /// exceeds its budget; those of `limit` and of `found`.
  [[nodiscard]] Status each(std::string_view text, WorkLimit& limit, const Found& found) const;

 private:
  struct Code;
  bool known_ = false;
  std::shared_ptr<const Code> code_;
};

}  // namespace llorch
