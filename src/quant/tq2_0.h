// TQ2_0: 256 values -1, 0 or 1 times one scale, in 66 bytes. 64 bytes of two-bit codes in the order of Q2_K, f16 d. x =
// d * (code - 1); code 3, which no writer makes, is 2 d. Source: the GGUF specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

struct TQ2_0 {
  static constexpr DType type = DType::kTQ2_0;
  static constexpr int sub = 32, zero = 1;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int part = 0; part < 8; ++part, out += 32)
      for (int j = 0; j < 32; ++j) out[j] = b[part / 4 * 32 + j] >> (part % 4 * 2) & 3;
  }
  static SubScale scale(const std::uint8_t* b, int) { return {load_half(b + 64), 0}; }

  /// The scale of the smallest squared error among some, each refitted to the codes that it gives.
  static float fit(const float* x) {
    float top = 0;
    for (int i = 0; i < 256; ++i) top = std::max(top, std::fabs(x[i]));
    float best = top;
    double best_gain = -1;
    for (int trial = 4; trial <= 16; ++trial) {
      const float half = top * static_cast<float>(trial) / 32;
      double sum = 0, count = 0;
      for (int i = 0; i < 256; ++i)
        if (std::fabs(x[i]) >= half) sum += static_cast<double>(std::fabs(x[i])), ++count;
      if (count > 0 && sum * sum / count > best_gain)
        best_gain = sum * sum / count, best = static_cast<float>(sum / count);
    }
    return best;
  }
  static void quantize(const float* x, std::uint8_t* b) {
    std::memset(b, 0, 64);
    store_half(b + 64, fit(x));
    const float inverse = inverse_of(load_half(b + 64));
    for (int i = 0; i < 256; ++i)
      b[i / 128 * 32 + i % 32] |= static_cast<std::uint8_t>(code(x[i], inverse, 0, 1, 2) << (i % 128 / 32 * 2));
  }
};

}  // namespace llorch::quant
