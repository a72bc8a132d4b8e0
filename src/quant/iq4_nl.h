// IQ4_NL: 32 values in 18 bytes. f16 scale d and nibbles as in Q4_0 that index a table of 16 unevenly spaced levels. x
// = d * level. Codes here are level + 127, so that they are unsigned. Source: the GGUF specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

struct IQ4_NL {
  static constexpr DType type = DType::kIQ4_NL;
  static constexpr int sub = 32, zero = 127;
  static constexpr int kLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int j = 0; j < 16; ++j) {
      out[j] = static_cast<std::uint8_t>(kLevels[b[2 + j] & 15] + zero);
      out[j + 16] = static_cast<std::uint8_t>(kLevels[b[2 + j] >> 4] + zero);
    }
  }
  static SubScale scale(const std::uint8_t* b, int) { return {load_half(b), 0}; }

  static int nearest(float level) {
    int best = 0;
    float least = std::fabs(level - static_cast<float>(kLevels[0]));
    for (int i = 1; i < 16; ++i)
      if (const float d = std::fabs(level - static_cast<float>(kLevels[i])); d < least) best = i, least = d;
    return best;
  }
  /// The scale, of either sign, that suits 32 values.
  static float fit(const float* x) {
    const float extreme = extreme_of(x, 32);
    float best = extreme / -127;
    double best_gain = -1;
    for (int trial = -6; trial <= 6; ++trial) {
      const float inverse = extreme != 0 ? static_cast<float>(-127 + trial * 3) / extreme : 0;
      double sxq = 0, sqq = 0;
      for (int j = 0; j < 32; ++j) {
        const double q = kLevels[nearest(x[j] * inverse)], w = x[j] * x[j];
        sxq += w * q * x[j], sqq += w * q * q;
      }
      if (sqq > 0 && sxq * sxq / sqq > best_gain) best_gain = sxq * sxq / sqq, best = static_cast<float>(sxq / sqq);
    }
    return best;
  }
  /// 32 nibbles in 16 bytes: value j low, value j + 16 high.
  static void put(const float* x, float scale, std::uint8_t* nibbles) {
    const float inverse = inverse_of(scale);
    for (int j = 0; j < 16; ++j)
      nibbles[j] = static_cast<std::uint8_t>(nearest(x[j] * inverse) | nearest(x[j + 16] * inverse) << 4);
  }
  static void quantize(const float* x, std::uint8_t* b) {
    store_half(b, fit(x));
    put(x, load_half(b), b + 2);
  }
};

}  // namespace llorch::quant
