// Q8_0: 32 values in 34 bytes. f16 scale d, then 32 signed bytes. x = d * q. Codes here are q + 128.
// Source: the GGUF specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

struct Q8_0 {
  static constexpr DType type = DType::kQ8_0;
  static constexpr int sub = 32, zero = 128;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int j = 0; j < 32; ++j) out[j] = b[2 + j] ^ 0x80;
  }
  static SubScale scale(const std::uint8_t* b, int) { return {load_half(b), 0}; }
  static void quantize(const float* x, std::uint8_t* b) {
    float extreme = 0;
    for (int j = 0; j < 32; ++j) extreme = std::max(extreme, std::fabs(x[j]));
    store_half(b, extreme / 127);
    const float inverse = inverse_of(load_half(b));
    for (int j = 0; j < 32; ++j)
      b[2 + j] = static_cast<std::uint8_t>(std::max<int>(code(x[j], inverse, 0, 128, 255), 1) ^ 0x80);
  }
};

}  // namespace llorch::quant
