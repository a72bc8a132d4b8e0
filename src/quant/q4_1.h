// Q4_1: 32 values in 20 bytes. f16 scale d, f16 offset m, 16 bytes of nibbles as in Q4_0. x = d * code + m.
// Source: the GGUF specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

struct Q4_1 {
  static constexpr DType type = DType::kQ4_1;
  static constexpr int sub = 32, zero = 0;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int j = 0; j < 16; ++j) out[j] = b[4 + j] & 15, out[j + 16] = b[4 + j] >> 4;
  }
  static SubScale scale(const std::uint8_t* b, int) { return {load_half(b), -load_half(b + 2)}; }
  static void quantize(const float* x, std::uint8_t* b) {
    const Fit fit = fit_affine(x, 32, 15);
    store_half(b, fit.scale);
    store_half(b + 2, -fit.minimum);
    const float inverse = inverse_of(load_half(b)), offset = -load_half(b + 2);
    for (int j = 0; j < 16; ++j)
      b[4 + j] =
          static_cast<std::uint8_t>(code(x[j], inverse, offset, 0, 15) | code(x[j + 16], inverse, offset, 0, 15) << 4);
  }
};

}  // namespace llorch::quant
