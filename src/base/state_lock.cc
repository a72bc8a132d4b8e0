#include "base/state_lock.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace llorch {
namespace {

/// One line of what the holder wrote, without control characters: the file may be anybody's.
std::string read_holder(int descriptor) {
  char text[200];
  const ssize_t n = ::pread(descriptor, text, sizeof text, 0);
  std::string out;
  for (ssize_t i = 0; i < n && text[i] != '\n'; ++i)
    if (static_cast<unsigned char>(text[i]) >= 0x20 && text[i] != 0x7f) out += text[i];
  return out.empty() ? "another process" : out;
}

}  // namespace

Result<StateLock> StateLock::take(const std::string& folder, const std::string& holder,
                                  std::chrono::milliseconds patience) {
  using Clock = std::chrono::steady_clock;
  constexpr int kLookEveryMs = 20;  // nothing tells when a lock is free, but waiting for it without end
  const auto end = Clock::now() + patience;
  while (true) {
    auto lock = take_file(folder + "/lock", "the folder " + folder, holder);
    if (lock || lock.error().code != ErrorCode::kResourceInUse || Clock::now() >= end) return lock;
    (void)::poll(nullptr, 0, kLookEveryMs);
  }
}

Result<StateLock> StateLock::take_file(const std::string& path, const std::string& what, const std::string& holder) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (descriptor < 0) return fail(ErrorCode::kIo, "cannot open {}: {}", path, std::strerror(errno));
  StateLock lock(descriptor);
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail(ErrorCode::kIo, "cannot lock {}: {}", path, std::strerror(errno));
    return fail(ErrorCode::kResourceInUse, "{} is in use by {}", what, read_holder(descriptor));
  }
  const std::string line = fmt::format("{} (process {})\n", holder, ::getpid());
  if (::ftruncate(descriptor, 0) != 0 ||
      ::pwrite(descriptor, line.data(), line.size(), 0) != static_cast<ssize_t>(line.size()))
    return fail(ErrorCode::kIo, "cannot write {}: {}", path, std::strerror(errno));
  return lock;
}

bool StateLock::is_held(const std::string& folder) {
  const int descriptor = ::open((folder + "/lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;
  const bool held = ::flock(descriptor, LOCK_SH | LOCK_NB) != 0;
  ::close(descriptor);
  return held;
}

StateLock::~StateLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace llorch
