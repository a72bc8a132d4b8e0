// Q4_K: 256 values in 144 bytes. f16 d, f16 dmin, 12 bytes of eight 6-bit scales and minimums of 32 values each, 128
// bytes of nibbles: byte l of chunk c holds value 64c + l low and 64c + 32 + l high. x = d * scale * code - dmin *
// minimum. Source: the GGUF specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

/// The packed scales and minimums that Q4_K and Q5_K share: 12 bytes for 8 pairs of 6-bit numbers.
struct ScalePairs {
  static int scale(const std::uint8_t* p, int s) { return s < 4 ? p[s] & 63 : (p[s + 4] & 15) | (p[s - 4] >> 6) << 4; }
  static int minimum(const std::uint8_t* p, int s) {
    return s < 4 ? p[s + 4] & 63 : (p[s + 4] >> 4) | (p[s] >> 6) << 4;
  }
  static void put(std::uint8_t* p, int s, int scale, int minimum) {
    if (s < 4) {
      p[s] |= static_cast<std::uint8_t>(scale);
      p[s + 4] |= static_cast<std::uint8_t>(minimum);
    } else {
      p[s + 4] = static_cast<std::uint8_t>((scale & 15) | (minimum & 15) << 4);
      p[s - 4] |= static_cast<std::uint8_t>((scale >> 4) << 6);
      p[s] |= static_cast<std::uint8_t>((minimum >> 4) << 6);
    }
  }
  static SubScale real(const std::uint8_t* block, int s) {
    return {load_half(block) * static_cast<float>(scale(block + 4, s)),
            load_half(block + 2) * static_cast<float>(minimum(block + 4, s))};
  }
  /// Chooses and stores d, dmin and the pairs for codes 0..levels.
  static void choose(const float* x, int levels, std::uint8_t* block) {
    Fit fits[8];
    float scale_max = 0, minimum_max = 0;
    for (int s = 0; s < 8; ++s) {
      fits[s] = fit_affine(x + std::ptrdiff_t{32} * s, 32, levels);
      scale_max = std::max(scale_max, fits[s].scale);
      minimum_max = std::max(minimum_max, fits[s].minimum);
    }
    store_half(block, scale_max / 63);
    store_half(block + 2, minimum_max / 63);
    std::memset(block + 4, 0, 12);
    const float d = inverse_of(load_half(block)), m = inverse_of(load_half(block + 2));
    for (int s = 0; s < 8; ++s) put(block + 4, s, code(fits[s].scale, d, 0, 0, 63), code(fits[s].minimum, m, 0, 0, 63));
  }
};

struct Q4_K {
  static constexpr DType type = DType::kQ4_K;
  static constexpr int sub = 32, zero = 0;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int quarter = 0; quarter < 4; ++quarter, out += 64)
      for (int j = 0; j < 32; ++j) {
        out[j] = b[16 + quarter * 32 + j] & 15;
        out[32 + j] = b[16 + quarter * 32 + j] >> 4;
      }
  }
  static SubScale scale(const std::uint8_t* b, int s) { return ScalePairs::real(b, s); }
  static void quantize(const float* x, std::uint8_t* b) {
    ScalePairs::choose(x, 15, b);
    std::memset(b + 16, 0, 128);
    for (int i = 0; i < 256; ++i) {
      const SubScale s = scale(b, i / 32);
      b[16 + i / 64 * 32 + i % 32] |=
          static_cast<std::uint8_t>(code(x[i], inverse_of(s.scale), s.minimum, 0, 15) << (i % 64 / 32 * 4));
    }
  }
};

}  // namespace llorch::quant
