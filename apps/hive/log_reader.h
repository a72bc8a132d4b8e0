// The lines of a worker's log, from one of its last on, also while it grows.
//
// A line of more than 8 KiB is cut and says how long it was; a file is read by the MiB. Threads: one at a time, not the
// event loop's. Errors: kWorkerNotFound when there is no such file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace llorch::hive {

class LogReader {
 public:
  /// Stands where the last `lines` lines of the file begin; they are looked for in its last 64 MiB.
  [[nodiscard]] static Result<LogReader> at_tail(const std::string& path, std::int64_t lines);
  struct Part {
    std::vector<std::string> lines;  // whole ones
    bool more = false;               // there may be more to read now
  };
  [[nodiscard]] Result<Part> read(const std::string& path);

 private:
  void add(std::string_view text);
  [[nodiscard]] std::string take_line();
  std::uint64_t at_ = 0;
  std::string begun_;  // of the line whose end has not come
  std::size_t begun_bytes_ = 0;
};

}  // namespace llorch::hive
