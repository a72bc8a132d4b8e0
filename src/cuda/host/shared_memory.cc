#include "cuda/host/shared_memory.h"

#include <fmt/format.h>

#include "cuda/host/guard.h"

namespace llorch::cuda::host {
namespace {
constexpr std::size_t kAlignment = 128;
}

SharedMemory::~SharedMemory() { open_guards(); }

void SharedMemory::open_guards() { open_guard(memory_.data(), memory_.size()); }

void SharedMemory::resize(std::size_t bytes) {
  open_guards();
  memory_.resize(std::max(memory_.size(), bytes + 2 * kGuardBytes + kAlignment));
  const auto first = reinterpret_cast<std::uintptr_t>(memory_.data()) + kGuardBytes;
  data_ = memory_.data() + kGuardBytes + (kAlignment - first % kAlignment) % kAlignment;
  bytes_ = bytes;
  close_guard(data_ - kGuardBytes, kGuardBytes);
  close_guard(data_ + bytes_, kGuardBytes);
}

void SharedMemory::poison_all() { poison(data_, bytes_); }

bool SharedMemory::contains(const void* at, std::size_t bytes) const {
  const auto* byte = static_cast<const std::byte*>(at);
  return byte >= data_ && byte <= data_ + bytes_ && bytes <= static_cast<std::size_t>(data_ + bytes_ - byte);
}

std::optional<std::string> SharedMemory::overrun() const {
  for (std::size_t i = kGuardBytes; i > 0; --i)
    if (touched_at(data_ - i, 1) == 0) return fmt::format("wrote {} bytes before its shared memory", i);
  if (const std::size_t i = touched_at(data_ + bytes_, kGuardBytes); i < kGuardBytes)
    return fmt::format("wrote shared memory at byte {} of {}", bytes_ + i, bytes_);
  return std::nullopt;
}

}  // namespace llorch::cuda::host
