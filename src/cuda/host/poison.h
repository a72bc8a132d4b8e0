// What memory holds that nothing wrote: a word that is a NaN as float and, in both halves, as half and as bfloat16, and
// that data hardly repeats. Checked reads look for two of it in a row.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace llorch::cuda::host {

inline constexpr std::uint32_t kPoison = 0xffb7ffb7u;

/// Fills bytes whose address decides where in the word they lie, so that neighbouring fills fit together.
inline void poison(void* at, std::size_t bytes) {
  auto* byte = static_cast<unsigned char*>(at);
  auto* end = byte + bytes;
  for (; byte < end && reinterpret_cast<std::uintptr_t>(byte) % 4; ++byte)
    *byte = static_cast<unsigned char>(kPoison >> (8 * (reinterpret_cast<std::uintptr_t>(byte) % 4)));
  for (; end - byte >= 4; byte += 4) std::memcpy(byte, &kPoison, 4);
  for (; byte < end; ++byte)
    *byte = static_cast<unsigned char>(kPoison >> (8 * (reinterpret_cast<std::uintptr_t>(byte) % 4)));
}

/// Whether one of the aligned 8-byte words that these bytes touch is poison.
/// These may lie partly outside what ASan lets a program touch.
__attribute__((no_sanitize("address"))) inline bool holds_poison(const void* at, std::size_t bytes) {
  constexpr std::uint64_t kTwo = (std::uint64_t{kPoison} << 32) | kPoison;
  const auto first = reinterpret_cast<std::uintptr_t>(at) & ~std::uintptr_t{7};
  for (auto word = first; word < reinterpret_cast<std::uintptr_t>(at) + bytes; word += 8) {
    std::uint64_t value;
    __builtin_memcpy(&value, reinterpret_cast<const void*>(word), 8);
    if (value == kTwo) return true;
  }
  return false;
}

}  // namespace llorch::cuda::host
