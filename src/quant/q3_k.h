// Q3_K: 256 values in 110 bytes. 32 bytes of third bits, 64 bytes of two-bit codes (as in Q2_K), 12 bytes of sixteen
// 6-bit scales, f16 d. x = d * (scale - 32) * (code - 4); bit k of third-bit byte l belongs to value 32k + l. Source:
// the GGUF specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

struct Q3_K {
  static constexpr DType type = DType::kQ3_K;
  static constexpr int sub = 16, zero = 4;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int part = 0; part < 8; ++part, out += 32)
      for (int j = 0; j < 32; ++j)
        out[j] = static_cast<std::uint8_t>((b[32 + part / 4 * 32 + j] >> (part % 4 * 2) & 3) | (b[j] >> part & 1) << 2);
  }
  /// The 6-bit scale of sub-block s, already less 32.
  static int scale_code(const std::uint8_t* b, int s) {
    const int low = s < 8 ? b[96 + s] & 15 : b[96 + s - 8] >> 4;
    return (low | (b[96 + 8 + s % 4] >> (s / 4 * 2) & 3) << 4) - 32;
  }
  static SubScale scale(const std::uint8_t* b, int s) {
    return {load_half(b + 108) * static_cast<float>(scale_code(b, s)), 0};
  }
  static void quantize(const float* x, std::uint8_t* b) {
    float scales[16];
    for (int s = 0; s < 16; ++s) scales[s] = fit_symmetric(x + std::ptrdiff_t{16} * s, 16, 4);
    const float extreme = extreme_of(scales, 16);
    std::memset(b, 0, 110);
    store_half(b + 108, extreme / -32);
    const float inverse = inverse_of(load_half(b + 108));
    for (int s = 0; s < 16; ++s) {
      const std::uint8_t c = code(scales[s], inverse, 0, 32, 63);
      b[96 + s % 8] |= static_cast<std::uint8_t>((c & 15) << (s / 8 * 4));
      b[96 + 8 + s % 4] |= static_cast<std::uint8_t>((c >> 4) << (s / 4 * 2));
    }
    for (int i = 0; i < 256; ++i) {
      const std::uint8_t c = code(x[i], inverse_of(scale(b, i / 16).scale), 0, 4, 7);
      b[32 + i / 128 * 32 + i % 32] |= static_cast<std::uint8_t>((c & 3) << (i % 128 / 32 * 2));
      b[i % 32] |= static_cast<std::uint8_t>((c >> 2) << (i / 32));
    }
  }
};

}  // namespace llorch::quant
