#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/thread_role.h"

namespace llorch {

Result<MappedFile> MappedFile::open(const std::string& path) {
  assert_may_block();
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(ErrorCode::kIo, "cannot open {}: {}", path, std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return fail(ErrorCode::kIo, "{} is not a regular file", path);
  }
  MappedFile file;
  if (info.st_size > 0) {
    const auto size = static_cast<std::size_t>(info.st_size);
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) {
      const int reason = errno;
      ::close(fd);
      return fail(ErrorCode::kIo, "cannot map {} ({} bytes): {}", path, size, std::strerror(reason));
    }
    file.bytes_ = {static_cast<const std::byte*>(address), size};
    file.file_ = fd;
  } else {
    ::close(fd);
  }
  return file;
}

MappedFile MappedFile::borrow(std::span<const std::byte> bytes) {
  MappedFile file;
  file.bytes_ = bytes;
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), file_(std::exchange(other.file_, -1)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(file_, other.file_);
  return *this;
}

MappedFile::~MappedFile() {
  if (file_ < 0) return;
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  ::close(file_);
}

void MappedFile::release(std::span<const std::byte> part) const {
  if (file_ < 0) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = (reinterpret_cast<std::uintptr_t>(part.data()) + page - 1) & ~(page - 1);
  const auto last = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) & ~(page - 1);
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

void MappedFile::read(std::span<const std::byte> part, std::byte* to) const {
  while (file_ >= 0 && !part.empty()) {
    const ssize_t n = ::pread(file_, to, part.size(), part.data() - bytes_.data());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;  // what cannot be read is left to the mapping
    part = part.subspan(static_cast<std::size_t>(n)), to += n;
  }
  if (!part.empty()) std::memcpy(to, part.data(), part.size());
}

const MappedFile* file_with(std::span<const MappedFile> files, const std::byte* at) {
  for (const MappedFile& file : files)
    if (at >= file.bytes().data() && at < file.bytes().data() + file.bytes().size()) return &file;
  return nullptr;
}

void read_bytes(std::span<const MappedFile> files, std::span<const std::byte> part, std::byte* to) {
  if (const MappedFile* file = file_with(files, part.data()))
    file->read(part, to);
  else
    std::memcpy(to, part.data(), part.size());
}

Result<std::string> read_text_file(const std::string& path, std::size_t bytes_max) {
  LLORCH_TRY(MappedFile file, MappedFile::open(path));
  if (file.bytes().size() > bytes_max)
    return fail(ErrorCode::kInvalidRequest, "{} has {} bytes, at most {} are read", path, file.bytes().size(),
                bytes_max);
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

}  // namespace llorch
