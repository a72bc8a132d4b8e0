// Q5_1: 32 values in 24 bytes. f16 scale d, f16 offset m, fifth bits and nibbles as in Q5_0. x = d * code + m.
// Source: the GGUF specification's block layouts.
#pragma once

#include "quant/q5_0.h"

namespace llorch::quant {

struct Q5_1 {
  static constexpr DType type = DType::kQ5_1;
  static constexpr int sub = 32, zero = 0;

  static void codes(const std::uint8_t* b, std::uint8_t* out) { load_five_bits(b + 4, b + 8, out); }
  static SubScale scale(const std::uint8_t* b, int) { return {load_half(b), -load_half(b + 2)}; }
  static void quantize(const float* x, std::uint8_t* b) {
    const Fit fit = fit_affine(x, 32, 31);
    store_half(b, fit.scale);
    store_half(b + 2, -fit.minimum);
    const float inverse = inverse_of(load_half(b)), offset = -load_half(b + 2);
    std::uint8_t all[32];
    for (int j = 0; j < 32; ++j) all[j] = code(x[j], inverse, offset, 0, 31);
    store_five_bits(all, b + 4, b + 8);
  }
};

}  // namespace llorch::quant
