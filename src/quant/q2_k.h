// Q2_K: 256 values in 84 bytes. 16 bytes of scales (low nibble) and minimums (high nibble) of 16 values each, 64 bytes
// of two-bit codes, f16 d, f16 dmin. x = d * scale * code - dmin * minimum. Codes: byte l of half h holds values 128h +
// 32j + l at bits 2j. Source: the GGUF specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

struct Q2_K {
  static constexpr DType type = DType::kQ2_K;
  static constexpr int sub = 16, zero = 0;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int part = 0; part < 8; ++part, out += 32)
      for (int j = 0; j < 32; ++j) out[j] = b[16 + part / 4 * 32 + j] >> (part % 4 * 2) & 3;
  }
  static SubScale scale(const std::uint8_t* b, int s) {
    return {load_half(b + 80) * static_cast<float>(b[s] & 15), load_half(b + 82) * static_cast<float>(b[s] >> 4)};
  }
  static void quantize(const float* x, std::uint8_t* b) {
    Fit fits[16];
    float scale_max = 0, minimum_max = 0;
    for (int s = 0; s < 16; ++s) {
      fits[s] = fit_affine(x + std::ptrdiff_t{16} * s, 16, 3);
      scale_max = std::max(scale_max, fits[s].scale);
      minimum_max = std::max(minimum_max, fits[s].minimum);
    }
    store_half(b + 80, scale_max / 15);
    store_half(b + 82, minimum_max / 15);
    const float d = inverse_of(load_half(b + 80)), m = inverse_of(load_half(b + 82));
    for (int s = 0; s < 16; ++s)
      b[s] = static_cast<std::uint8_t>(code(fits[s].scale, d, 0, 0, 15) | code(fits[s].minimum, m, 0, 0, 15) << 4);
    for (int i = 0; i < 64; ++i) b[16 + i] = 0;
    for (int i = 0; i < 256; ++i) {
      const SubScale s = scale(b, i / 16);
      b[16 + i / 128 * 32 + i % 32] |=
          static_cast<std::uint8_t>(code(x[i], inverse_of(s.scale), s.minimum, 0, 3) << (i % 128 / 32 * 2));
    }
  }
};

}  // namespace llorch::quant
