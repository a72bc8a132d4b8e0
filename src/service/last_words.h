// Why a program that has ended did so, by what it wrote: its last error, else what it said last. Lines may be records
// of our log (log.h), errors of a command line ("error: ..."), or anybody's. Threads: one.
#pragma once

#include <string>
#include <string_view>

namespace llorch::service {

class LastWords {
 public:
  void take(std::string_view line);
  /// One line of valid UTF-8, at most 500 characters; empty: it said nothing.
  [[nodiscard]] const std::string& text() const { return error_.empty() ? last_ : error_; }

 private:
  std::string last_, error_;
};

}  // namespace llorch::service
