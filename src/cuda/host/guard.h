// Bytes that nothing may touch, at both ends of memory that a kernel uses. They hold poison: what reads them gets NaNs.
#pragma once

#include "cuda/host/fiber.h"
#include "cuda/host/poison.h"

namespace llorch::cuda::host {

inline constexpr std::size_t kGuardBytes = 256;

inline void close_guard(std::byte* at, std::size_t bytes) {
  poison(at, bytes);
#ifdef LLORCH_FIBERS_ANNOUNCED
  ASAN_POISON_MEMORY_REGION(at, bytes);
#endif
}
inline void open_guard([[maybe_unused]] std::byte* at, [[maybe_unused]] std::size_t bytes) {
#ifdef LLORCH_FIBERS_ANNOUNCED
  ASAN_UNPOISON_MEMORY_REGION(at, bytes);
#endif
}

/// The first byte that is not poison any more, or bytes.
inline std::size_t touched_at(const std::byte* at, std::size_t bytes) {
#ifdef LLORCH_FIBERS_ANNOUNCED
  (void)at;
  return bytes;  // ASan has reported it
#else
  for (std::size_t i = 0; i < bytes; ++i) {
    const auto expected = static_cast<std::byte>(kPoison >> (8 * (reinterpret_cast<std::uintptr_t>(at + i) % 4)));
    if (at[i] != expected) return i;
  }
  return bytes;
#endif
}

}  // namespace llorch::cuda::host
