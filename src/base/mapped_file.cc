#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/open_file.h"

namespace llorch {

Result<MappedFile> MappedFile::open(const std::string& path) {
  LLORCH_TRY(const RegularFile from, open_regular_file(path));
  MappedFile file;
  if (from.size() > 0) {
    void* address = ::mmap(nullptr, from.size(), PROT_READ, MAP_PRIVATE, from.descriptor(), 0);
    if (address == MAP_FAILED)
      return fail(ErrorCode::kIo, "cannot map {} ({} bytes): {}", path, from.size(), std::strerror(errno));
    file.bytes_ = {static_cast<const std::byte*>(address), from.size()};
    file.file_ = ::fcntl(from.descriptor(), F_DUPFD_CLOEXEC, 0);
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

}  // namespace llorch
