#include "base/aligned_buffer.h"

#include <sys/mman.h>

namespace llorch {
namespace {
constexpr std::size_t kHugePage = 2u << 20;
}

Result<AlignedBuffer> AlignedBuffer::make(std::size_t bytes) {
  AlignedBuffer buffer;
  if (bytes == 0) return buffer;
  void* address = bytes > (std::size_t{1} << 46)
                      ? MAP_FAILED
                      : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED)
    return fail(ErrorCode::kInsufficientMemory, "cannot allocate {} bytes (alloc failed)", bytes);
  if (bytes >= kHugePage) ::madvise(address, bytes, MADV_HUGEPAGE);
  buffer.data_ = static_cast<std::byte*>(address);
  buffer.bytes_ = bytes;
  return buffer;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_) ::munmap(data_, bytes_);
}

}  // namespace llorch
