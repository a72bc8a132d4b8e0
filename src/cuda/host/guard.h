// Bytes that nothing may touch, at both ends of memory that a kernel uses. They hold poison: what reads them gets NaNs.
#pragma once

#include "cuda/host/asan.h"
#include "cuda/host/poison.h"

namespace llorch::cuda::host {

inline constexpr std::size_t kGuardBytes = 256;

inline void close_guard(std::byte* at, std::size_t bytes) {
  poison(at, bytes);
  asan_close(at, bytes);
}
inline void open_guard(std::byte* at, std::size_t bytes) { asan_open(at, bytes); }

/// The first byte that is not poison any more, or bytes. Under ASan it is never asked: a touch was reported.
inline std::size_t touched_at(const std::byte* at, std::size_t bytes) {
  if (kAsan) return bytes;
  for (std::size_t i = 0; i < bytes; ++i) {
    const auto expected = static_cast<std::byte>(kPoison >> (8 * (reinterpret_cast<std::uintptr_t>(at + i) % 4)));
    if (at[i] != expected) return i;
  }
  return bytes;
}

}  // namespace llorch::cuda::host
