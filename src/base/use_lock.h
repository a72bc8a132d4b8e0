// Which processes of this machine use something that one of them has started, counted by the kernel.
//
// A file carries two locks (open file description locks, fcntl(2)), which end with the process that holds them, also
// across kill -9. Byte 0: each user holds it shared; whoever wants to end what is used takes it alone, which succeeds
// once there is no user, and from then on nobody becomes one. Byte 1: held by the process that is starting it.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"

namespace llorch {

class UseLock {
 public:
  /// The file is made where it is missing. Errors: kIo.
  [[nodiscard]] static Result<UseLock> open(const std::string& file);
  UseLock(UseLock&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), file_(std::move(other.file_)) {}
  UseLock& operator=(UseLock&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(file_, other.file_);
    return *this;
  }
  ~UseLock();

  /// This process is a user from now on. False: what is used is about to end. Errors, here and below: kIo naming the
  /// file, where the kernel cannot tell.
  [[nodiscard]] Result<bool> use();
  /// This process is no user any more.
  void leave();
  /// Whether another process is a user.
  [[nodiscard]] bool has_other_users() const;
  /// False: somebody uses it. True: nobody does, and nobody will as long as this object lives.
  [[nodiscard]] Result<bool> close_if_unused();

  /// This process starts it; false: another one does.
  [[nodiscard]] Result<bool> begin_start();
  void end_start();

 private:
  UseLock(int descriptor, std::string file) : descriptor_(descriptor), file_(std::move(file)) {}
  /// False: another process has it.
  [[nodiscard]] Result<bool> set(short type, off_t byte) const;
  int descriptor_;
  std::string file_;
};

}  // namespace llorch
