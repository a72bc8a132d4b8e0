// Q5_K: 256 values in 176 bytes. As Q4_K, with 32 bytes of fifth bits before the nibbles: bit s of byte l belongs to
// value 32s + l. Source: the GGUF specification's block layouts.
#pragma once

#include "quant/q4_k.h"

namespace llorch::quant {

struct Q5_K {
  static constexpr DType type = DType::kQ5_K;
  static constexpr int sub = 32, zero = 0;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int quarter = 0; quarter < 4; ++quarter, out += 64)
      for (int j = 0; j < 32; ++j) {
        const std::uint8_t low = b[48 + quarter * 32 + j], high = static_cast<std::uint8_t>(b[16 + j] >> 2 * quarter);
        out[j] = static_cast<std::uint8_t>((low & 15) | (high & 1) << 4);
        out[32 + j] = static_cast<std::uint8_t>(low >> 4 | (high & 2) << 3);
      }
  }
  static SubScale scale(const std::uint8_t* b, int s) { return ScalePairs::real(b, s); }
  static void quantize(const float* x, std::uint8_t* b) {
    ScalePairs::choose(x, 31, b);
    std::memset(b + 16, 0, 160);
    for (int i = 0; i < 256; ++i) {
      const SubScale s = scale(b, i / 32);
      const std::uint8_t c = code(x[i], inverse_of(s.scale), s.minimum, 0, 31);
      b[48 + i / 64 * 32 + i % 32] |= static_cast<std::uint8_t>((c & 15) << (i % 64 / 32 * 4));
      b[16 + i % 32] |= static_cast<std::uint8_t>((c >> 4) << (i / 32));
    }
  }
};

}  // namespace llorch::quant
