// Q4_0: 32 values in 18 bytes. f16 scale d, then 16 bytes: low nibbles are values 0..15, high nibbles 16..31. x = d *
// (code - 8). Source: the GGUF specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

struct Q4_0 {
  static constexpr DType type = DType::kQ4_0;
  static constexpr int sub = 32, zero = 8;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int j = 0; j < 16; ++j) out[j] = b[2 + j] & 15, out[j + 16] = b[2 + j] >> 4;
  }
  static SubScale scale(const std::uint8_t* b, int) { return {load_half(b), 0}; }
  static void quantize(const float* x, std::uint8_t* b) {
    store_half(b, fit_symmetric(x, 32, 8));
    const float inverse = inverse_of(load_half(b));
    for (int j = 0; j < 16; ++j)
      b[2 + j] = static_cast<std::uint8_t>(code(x[j], inverse, 0, 8, 15) | code(x[j + 16], inverse, 0, 8, 15) << 4);
  }
};

}  // namespace llorch::quant
