// Which worker processes a hive has started, in a file of its state folder: the hive that comes after one that was
// killed ends what is left of it (H-33).
//
// A record names the worker and the hive that started it, each by process id and start time. A worker is ended only
// when that hive no longer runs and the process is still the one that was started. Reads and writes files: not on the
// event loop.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace llorch::hive {

/// A process id alone may be somebody else's by now.
struct ProcessIdentity {
  int pid = 0;
  std::uint64_t started = 0;  // clock ticks since boot
  bool operator==(const ProcessIdentity&) const = default;
};
/// Nothing when there is no such process.
[[nodiscard]] std::optional<ProcessIdentity> identity_of_process(int pid);

class WorkerRecords {
 public:
  explicit WorkerRecords(std::string file) : file_(std::move(file)) {}
  /// `program`: what the worker runs. Errors: kIo.
  [[nodiscard]] Status add(int pid, const std::string& program) const;
  /// Ends the workers of hives that are gone, and forgets them. Returns their process ids. Call it with the state
  /// folder's lock held.
  [[nodiscard]] std::vector<int> end_orphans() const;
  /// After all workers have been stopped.
  void clear() const;

 private:
  std::string file_;
};

}  // namespace llorch::hive
