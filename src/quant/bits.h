// Unaligned little-endian access to the fields of a block. Every platform that we run on is little-endian.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "base/half.h"

namespace llorch::quant {

static_assert(std::endian::native == std::endian::little);

template<class T>
[[nodiscard]] inline T load(const std::uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

template<class T>
inline void store(std::uint8_t* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

[[nodiscard]] inline float load_half(const std::uint8_t* p) { return half_to_float(load<std::uint16_t>(p)); }
inline void store_half(std::uint8_t* p, float value) { store(p, float_to_half(value)); }

}  // namespace llorch::quant
