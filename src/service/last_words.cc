#include "service/last_words.h"

#include "format/json.h"
#include "security/validate.h"

namespace llorch::service {

void LastWords::take(std::string_view line) {
  constexpr std::size_t kMessageMax = 500;                      // characters
  constexpr std::string_view kError = "error: ", kHint = "  ";  // of a command line's error: the second line is advice
  if (line.empty() || line.starts_with(kHint)) return;
  const auto parsed = json::parse(line, "log");
  const auto* o = parsed ? parsed->if_object() : nullptr;
  last_ = o ? json::find_text(*o, "message").value_or(std::string(line)) : std::string(line);
  const bool is_error = o ? json::find_text(*o, "level") == "error" : line.starts_with(kError);
  if (!o && is_error) last_.erase(0, kError.size());
  last_ = security::sanitize(last_, kMessageMax);
  if (is_error) error_ = last_;
}

}  // namespace llorch::service
