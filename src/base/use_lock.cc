#include "base/use_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace llorch {
namespace {

constexpr off_t kUsers = 0, kStart = 1;

struct flock lock_of(short type, off_t byte) {
  struct flock lock {};
  lock.l_type = type, lock.l_whence = SEEK_SET, lock.l_start = byte, lock.l_len = 1;
  return lock;
}

}  // namespace

Result<UseLock> UseLock::open(const std::string& file) {
  const int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (descriptor < 0) return fail(ErrorCode::kIo, "cannot open {}: {}", file, std::strerror(errno));
  return UseLock(descriptor, file);
}

UseLock::~UseLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<bool> UseLock::set(short type, off_t byte) const {
  struct flock lock = lock_of(type, byte);
  if (::fcntl(descriptor_, F_OFD_SETLK, &lock) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  return fail(ErrorCode::kIo, "cannot lock {}: {}", file_, std::strerror(errno));
}

Result<bool> UseLock::use() { return set(F_RDLCK, kUsers); }

void UseLock::leave() { (void)set(F_UNLCK, kUsers); }

bool UseLock::has_other_users() const {
  struct flock lock = lock_of(F_WRLCK, kUsers);
  return ::fcntl(descriptor_, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_RDLCK;
}

Result<bool> UseLock::close_if_unused() { return set(F_WRLCK, kUsers); }

Result<bool> UseLock::begin_start() { return set(F_WRLCK, kStart); }

void UseLock::end_start() { (void)set(F_UNLCK, kStart); }

}  // namespace llorch
