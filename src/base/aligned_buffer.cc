#include "base/aligned_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>

namespace llorch {
namespace {
constexpr std::size_t kHugePage = 2u << 20, kArenaChunk = 256u << 20;
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

Result<std::span<std::byte>> Arena::take(std::size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (bytes > left_) {
    LLORCH_TRY(AlignedBuffer chunk, AlignedBuffer::make(std::max(bytes, kArenaChunk) + kHugePage));
    const auto address = reinterpret_cast<std::uintptr_t>(chunk.data());
    const std::size_t skip = (kHugePage - address % kHugePage) % kHugePage;
    next_ = chunk.data() + skip, left_ = chunk.size() - skip;
    chunks_.push_back(std::move(chunk));
  }
  left_ -= bytes;
  return std::span(std::exchange(next_, next_ + bytes), bytes);
}

AlignedBuffer::~AlignedBuffer() {
  if (data_) ::munmap(data_, bytes_);
}

}  // namespace llorch
