#include "base/file_bytes.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace llorch {

Result<FileBytes> FileBytes::open(const std::string& path) {
  FileBytes bytes;
  LLORCH_TRY(bytes.file_, open_regular_file(path));
  if (bytes.file_.size() == 0) return bytes;
  void* address = ::mmap(nullptr, bytes.file_.size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED)
    return fail(ErrorCode::kIo, "no addresses are left for {} ({} bytes): {}", path, bytes.file_.size(),
                std::strerror(errno));
  bytes.addresses_ = {static_cast<const std::byte*>(address), bytes.file_.size()};
  return bytes;
}

FileBytes FileBytes::borrow(std::span<const std::byte> bytes) {
  FileBytes out;
  out.addresses_ = bytes;
  return out;
}

FileBytes::FileBytes(FileBytes&& other) noexcept
    : addresses_(std::exchange(other.addresses_, {})), file_(std::move(other.file_)) {}

FileBytes& FileBytes::operator=(FileBytes&& other) noexcept {
  std::swap(addresses_, other.addresses_);
  std::swap(file_, other.file_);
  return *this;
}

FileBytes::~FileBytes() {
  if (file_.descriptor() >= 0 && !addresses_.empty())
    ::munmap(const_cast<std::byte*>(addresses_.data()), addresses_.size());
}

Status FileBytes::read(std::span<const std::byte> part, std::byte* to) const {
  if (part.empty()) return {};
  LLORCH_ASSERT(holds(part.data()) &&
                    part.size() <= addresses_.size() - static_cast<std::size_t>(part.data() - addresses_.data()),
                "read outside the file");
  if (file_.descriptor() < 0) {
    std::memcpy(to, part.data(), part.size());
    return {};
  }
  const Status done = file_.read(static_cast<std::uint64_t>(part.data() - addresses_.data()), {to, part.size()});
  if (!done) return fail(ErrorCode::kModelChanged, "{}", done.error().message);
  return {};
}

Status FileBytes::unchanged() {
  if (file_.descriptor() < 0) return {};
  const Status same = file_.unchanged();
  if (!same) return fail(ErrorCode::kModelChanged, "{}", same.error().message);
  return {};
}

Status read_part(std::span<const FileBytes> files, std::span<const std::byte> part, std::byte* to) {
  for (const FileBytes& file : files)
    if (file.holds(part.data())) return file.read(part, to);
  if (!part.empty()) std::memcpy(to, part.data(), part.size());
  return {};
}

Status parts_unchanged(std::span<FileBytes> files, std::span<const std::byte> part) {
  for (FileBytes& file : files)
    if (part.empty() || file.holds(part.data())) LLORCH_OK(file.unchanged());
  return {};
}

}  // namespace llorch
