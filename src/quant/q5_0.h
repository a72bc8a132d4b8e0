// Q5_0: 32 values in 22 bytes. f16 scale d, 32 fifth bits, 16 bytes of nibbles as in Q4_0. x = d * (code - 16).
// Source: the GGUF specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

/// Splits 32 five-bit codes into fifth bits (4 bytes at `high`) and nibbles (16 bytes at `low`), and joins them again.
inline void store_five_bits(const std::uint8_t* codes, std::uint8_t* high, std::uint8_t* low) {
  std::uint32_t fifth = 0;
  for (int j = 0; j < 32; ++j) fifth |= static_cast<std::uint32_t>(codes[j] >> 4) << j;
  for (int j = 0; j < 16; ++j) low[j] = static_cast<std::uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
  store(high, fifth);
}
/// Bit i of `bits` as byte i: 16 or 0.
inline std::uint64_t spread_fifth(std::uint64_t bits) {
  const std::uint64_t one_each = (bits * 0x0101010101010101) & 0x8040201008040201;  // bit i in byte i
  return ((one_each + 0x7f7f7f7f7f7f7f7f) & 0x8080808080808080) >> 3;
}
inline void load_five_bits(const std::uint8_t* high, const std::uint8_t* low, std::uint8_t* out) {
  constexpr std::uint64_t kNibbles = 0x0f0f0f0f0f0f0f0f;
  for (int j = 0; j < 2; ++j) {
    const auto eight = load<std::uint64_t>(low + 8 * j);
    store(out + 8 * j, (eight & kNibbles) | spread_fifth(high[j]));
    store(out + 16 + 8 * j, (eight >> 4 & kNibbles) | spread_fifth(high[2 + j]));
  }
}

struct Q5_0 {
  static constexpr DType type = DType::kQ5_0;
  static constexpr int sub = 32, zero = 16;

  static void codes(const std::uint8_t* b, std::uint8_t* out) { load_five_bits(b + 2, b + 6, out); }
  static SubScale scale(const std::uint8_t* b, int) { return {load_half(b), 0}; }
  static void quantize(const float* x, std::uint8_t* b) {
    store_half(b, fit_symmetric(x, 32, 16));
    const float inverse = inverse_of(load_half(b));
    std::uint8_t all[32];
    for (int j = 0; j < 32; ++j) all[j] = code(x[j], inverse, 0, 16, 31);
    store_five_bits(all, b + 2, b + 6);
  }
};

}  // namespace llorch::quant
