// The lock of a daemon's state folder: two daemons never write the same files.
//
// A file `lock` in the folder is held with flock() as long as the object lives, also across kill -9: the kernel frees
// it with the process. The file says who holds it.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "base/result.h"

namespace llorch {

class StateLock {
 public:
  /// Locks `folder`, which exists. `holder`: what the error of a second one names, for example "llorch-queen on port
  /// 8500"; the process id is added. Errors: kResourceInUse naming folder and holder; kIo.
  /// `patience`: how long another holder, which is ending, is waited for.
  [[nodiscard]] static Result<StateLock> take(const std::string& folder, const std::string& holder,
                                              std::chrono::milliseconds patience = {});
  /// The same with a lock file of its own name, for `what` it guards: "the audit log /var/log/a".
  [[nodiscard]] static Result<StateLock> take_file(const std::string& file, const std::string& what,
                                                   const std::string& holder);
  /// Whether a daemon of this machine has the folder.
  [[nodiscard]] static bool is_held(const std::string& folder);
  StateLock(StateLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  StateLock& operator=(StateLock&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~StateLock();

 private:
  explicit StateLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace llorch
