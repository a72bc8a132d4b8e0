#include "base/open_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/thread_role.h"

namespace llorch {

FileIdentity FileIdentity::of(const struct stat& info) {
  const auto ns = [](const timespec& t) { return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; };
  return {info.st_dev, info.st_ino, info.st_size, ns(info.st_mtim), ns(info.st_ctim)};
}

Result<FileIdentity> FileIdentity::of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return fail(ErrorCode::kIo, "{}: {}", path, std::strerror(errno));
  return of(info);
}

std::string FileIdentity::text() const {
  return fmt::format("{}:{}:{}:{}:{}", device, inode, size, modified_ns, changed_ns);
}

std::string_view file_kind(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return "a regular file";
    case S_IFDIR: return "a directory";
    case S_IFIFO: return "a FIFO";
    case S_IFCHR:
    case S_IFBLK: return "a device";
    case S_IFSOCK: return "a socket";
    case S_IFLNK: return "a symbolic link";
    default: return "a file of unknown kind";
  }
}

RegularFile& RegularFile::operator=(RegularFile&& o) noexcept {
  path_.swap(o.path_);
  std::swap(descriptor_, o.descriptor_), std::swap(mode_, o.mode_), std::swap(owner_, o.owner_);
  std::swap(links_, o.links_);
  std::swap(identity_, o.identity_);
  return *this;
}

RegularFile::~RegularFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<RegularFile> open_regular_file(const std::string& path) {
  assert_may_block();
  if (path.find('\0') != std::string::npos) return fail(ErrorCode::kIo, "a path holds a NUL byte");
  // Before opening: a device may have effects when it is opened, and a socket cannot be. After it: the name may have
  // become another's. O_NONBLOCK: what became a FIFO in between does not block.
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return fail(ErrorCode::kIo, "cannot open {}: {}", path, std::strerror(errno));
  RegularFile file;
  if (S_ISREG(info.st_mode)) {
    file.descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file.descriptor_ < 0 || ::fstat(file.descriptor_, &info) != 0)
      return fail(ErrorCode::kIo, "cannot open {}: {}", path, std::strerror(errno));
  }
  if (!S_ISREG(info.st_mode))
    return fail(ErrorCode::kIo, "{} is {}, not a regular file", path, file_kind(info.st_mode));
  file.path_ = path, file.mode_ = info.st_mode & 07777, file.owner_ = info.st_uid, file.links_ = info.st_nlink;
  file.identity_ = FileIdentity::of(info);
  return file;
}

Result<std::size_t> RegularFile::read_some(std::uint64_t offset, std::span<std::byte> to) const {
  while (true) {
    const ssize_t n = ::pread(descriptor_, to.data(), to.size(), static_cast<off_t>(offset));
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno != EINTR) return fail(ErrorCode::kIo, "cannot read {}: {}", path_, std::strerror(errno));
  }
}

Status RegularFile::read(std::uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    LLORCH_TRY(const std::size_t n, read_some(offset, to));
    if (n == 0)
      return fail(ErrorCode::kIo, "{} ends at byte {}; it had {} bytes when it was opened", path_, offset, size());
    to = to.subspan(n), offset += n;
  }
  return {};
}

Status RegularFile::unchanged() {
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0)
    return fail(ErrorCode::kIo, "cannot look at {}: {}", path_, std::strerror(errno));
  const FileIdentity now = FileIdentity::of(info);
  // Names that come or go change this time, too.
  if (info.st_nlink != std::exchange(links_, info.st_nlink)) identity_.changed_ns = now.changed_ns;
  if (now == identity_) return {};
  return fail(ErrorCode::kIo, "{} was changed by another program: it had {} bytes and has {}", path_, identity_.size,
              now.size);
}

Result<std::string> read_text_file(const std::string& path, std::size_t bytes_max) {
  LLORCH_TRY(const RegularFile file, open_regular_file(path));
  std::string text(std::min<std::uint64_t>(file.size(), bytes_max) + 1, '\0');  // one more: to see the end
  for (std::size_t got = 0;;) {
    LLORCH_TRY(const std::size_t n, file.read_some(got, std::as_writable_bytes(std::span(text).subspan(got))));
    got += n;
    if (got > bytes_max)
      return fail(ErrorCode::kInvalidRequest, "{} has {} bytes, at most {} are read", path,
                  std::max<std::uint64_t>(file.size(), got), bytes_max);
    if (n == 0) {
      text.resize(got);
      return text;
    }
    if (got == text.size()) text.resize(std::min(2 * got, bytes_max + 1));  // it grows, or does not know its size
  }
}

}  // namespace llorch
