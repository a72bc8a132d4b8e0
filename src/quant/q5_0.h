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
inline void load_five_bits(const std::uint8_t* high, const std::uint8_t* low, std::uint8_t* out) {
  const auto fifth = load<std::uint32_t>(high);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<std::uint8_t>((low[j] & 15) | (fifth >> j & 1) << 4);
    out[j + 16] = static_cast<std::uint8_t>((low[j] >> 4) | (fifth >> (j + 16) & 1) << 4);
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
