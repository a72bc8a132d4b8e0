#include "cuda/host/memory.h"

#include <fmt/format.h>

#include <cstdlib>

#include "cuda/host/guard.h"
#include "cuda/host/settings.h"
#include "cuda/host/thread.h"

namespace llorch::cuda::host {
namespace {

constexpr std::size_t kAlignment = 256;
static_assert(kGuardBytes % kAlignment == 0);

std::optional<std::string> overrun_of(const std::byte* at, std::size_t bytes) {
  for (std::size_t i = kGuardBytes; i > 0; --i)
    if (touched_at(at - i, 1) == 0)
      return fmt::format("{} bytes before an allocation of {} bytes were written", i, bytes);
  if (const std::size_t i = touched_at(at + bytes, kGuardBytes); i < kGuardBytes)
    return fmt::format("byte {} of an allocation of {} bytes was written", bytes + i, bytes);
  return std::nullopt;
}

/// The allocations that this host thread looked at last.
struct Recent {
  std::uint64_t generation = 0;
  Memory::Range ranges[4];
  unsigned next = 0;
};
constinit thread_local Recent recent;

bool in_memory(const void* at, std::size_t bytes) {
  if (recent.generation != memory().generation()) recent = {memory().generation(), {}, 0};
  for (const auto& range : recent.ranges)
    if (range.holds(at, bytes)) return true;
  const auto range = memory().range_of(at);
  if (!range || !range->holds(at, bytes)) return false;
  recent.ranges[recent.next++ % 4] = *range;
  return true;
}

}  // namespace

void* Memory::allocate(std::size_t bytes, MemoryKind kind) {
  if (kind == MemoryKind::kDevice && bytes > device_bytes_max_ - std::min(device_bytes_max_, device_bytes_))
    return nullptr;
  const std::size_t padded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, padded + 2 * kGuardBytes));
  if (!memory) return nullptr;
  std::byte* at = memory + kGuardBytes;
  poison(at, bytes);
  close_guard(memory, kGuardBytes);
  close_guard(at + bytes, padded - bytes + kGuardBytes);
  allocations_[at] = {bytes, kind};
  ++allocated_;
  if (kind == MemoryKind::kDevice) device_bytes_ += bytes;
  ++generation_;
  return at;
}

std::optional<std::string> Memory::release(void* at) {
  const auto found = allocations_.find(static_cast<std::byte*>(at));
  if (found == allocations_.end()) return "memory is freed that is not allocated";
  const auto [bytes, kind] = found->second;
  auto problem = overrun_of(static_cast<std::byte*>(at), bytes);
  if (kind == MemoryKind::kDevice) device_bytes_ -= bytes;
  allocations_.erase(found);
  ++generation_;
  auto* memory = static_cast<std::byte*>(at) - kGuardBytes;
  open_guard(memory, kGuardBytes);
  open_guard(memory + kGuardBytes + bytes, kGuardBytes);
  poison(at, bytes);  // a stale read that ASan does not watch
  std::free(memory);
  return problem;
}

std::optional<Memory::Range> Memory::range_of(const void* at) const {
  auto after = allocations_.upper_bound(static_cast<const std::byte*>(at));
  if (after == allocations_.begin()) return std::nullopt;
  const auto& [begin, allocation] = *--after;
  return Range{begin, allocation.bytes};
}

bool Memory::contains(const void* at, std::size_t bytes, std::optional<MemoryKind> kind) const {
  const auto range = range_of(at);
  return range && range->holds(at, bytes) && (!kind || allocations_.at(range->begin).kind == *kind);
}

std::optional<std::string> Memory::overrun() const {
  for (const auto& [at, allocation] : allocations_)
    if (auto problem = overrun_of(at, allocation.bytes)) return problem;
  return std::nullopt;
}

Memory& memory() {
  // Never destroyed: a thread may hang in the device, and what was abandoned there stays known. Nonsense in the
  // environment: select_device() says so.
  static Memory& one = *new Memory(memory_bytes_of_environment().value_or(0));
  return one;
}

void check_global(const void* at, std::size_t bytes, std::size_t alignment, std::source_location where) {
  if (reinterpret_cast<std::uintptr_t>(at) % alignment != 0)
    kernel_error(where, "an access of %zu bytes at an address that is no multiple of %zu", bytes, alignment);
  if (!in_memory(at, bytes)) kernel_error(where, "an access of %zu bytes that is not inside device memory", bytes);
  if (bytes > 0 && holds_poison(at, bytes)) kernel_error(where, "a read of device memory that nothing wrote");
}

}  // namespace llorch::cuda::host
