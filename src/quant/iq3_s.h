// IQ3_S: 256 values in 110 bytes. f16 d, 64 lower bytes of indices into a codebook of 512 times four magnitudes, 8
// bytes of their upper bits (bit i of byte s: index 8 s + i), 32 bytes of signs, 4 bytes of scale nibbles for 32 values
// each. x = +-d * (1 + 2 scale) * magnitude, which is an odd number up to 15. Codes here are 15 + x's whole number.
// Source: the GGUF specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"
#include "quant/iq3_grids.h"

namespace llorch::quant {

/// A codebook of four magnitudes for writing: which entry is nearest to magnitudes that it may not have.
class Codebook {
 public:
  /// `levels`: the eight magnitudes, ascending.
  Codebook(const std::uint16_t* grid, int count, const float* levels) : grid_(grid), levels_(levels) {
    for (int wanted = 0; wanted < 4096; ++wanted) {
      float best = INFINITY;
      for (int i = 0; i < count; ++i) {
        float error = 0;
        for (int j = 0; j < 12; j += 3) {
          const float off = levels[wanted >> j & 7] - levels[grid[i] >> j & 7];
          error += off * off;
        }
        if (error < best) best = error, nearest_[wanted] = static_cast<std::uint16_t>(i);
      }
    }
  }
  /// The entry for four sizes.
  [[nodiscard]] int nearest(const float* sizes) const {
    int wanted = 0;
    for (int j = 0; j < 4; ++j) {
      int level = 0;
      while (level < 7 && sizes[j] > (levels_[level] + levels_[level + 1]) / 2) ++level;
      wanted |= level << (3 * j);
    }
    return nearest_[wanted];
  }
  [[nodiscard]] float magnitude(int entry, int j) const { return levels_[grid_[entry] >> (3 * j) & 7]; }

  /// The scale that suits 32 values.
  [[nodiscard]] float fit(const float* x) const {
    float top = 0;
    for (int i = 0; i < 32; ++i) top = std::max(top, std::fabs(x[i]));
    if (top == 0) return 0;
    float best = top / levels_[7];
    double best_gain = -1;
    for (int trial = 0; trial < 16; ++trial) {
      const float inverse = levels_[7] * static_cast<float>(16 - trial) / 16 / top;
      double sxq = 0, sqq = 0;
      for (int i = 0; i < 32; i += 4) {
        float sizes[4];
        for (int j = 0; j < 4; ++j) sizes[j] = std::fabs(x[i + j]) * inverse;
        const int entry = nearest(sizes);
        for (int j = 0; j < 4; ++j) {
          const float q = magnitude(entry, j);
          sxq += static_cast<double>(q * std::fabs(x[i + j])), sqq += static_cast<double>(q * q);
        }
      }
      if (sxq * sxq / sqq > best_gain) best_gain = sxq * sxq / sqq, best = static_cast<float>(sxq / sqq);
    }
    return best;
  }

 private:
  const std::uint16_t* grid_;
  const float* levels_;
  std::uint16_t nearest_[4096] = {};
};

struct IQ3_S {
  static constexpr DType type = DType::kIQ3_S;
  static constexpr int sub = 32, zero = 15;
  static constexpr float kLevels[8] = {1, 3, 5, 7, 9, 11, 13, 15};

  static const Codebook& codebook() {
    static const Codebook book(kGridIQ3_S, 512, kLevels);
    return book;
  }
  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int i = 0; i < 64; ++i) {
      const int entry = kGridIQ3_S[b[2 + i] | (b[66 + i / 8] >> (i % 8) & 1) << 8];
      for (int j = 0; j < 4; ++j, ++out) {
        const int magnitude = 2 * (entry >> (3 * j) & 7) + 1;
        const bool negative = (b[74 + i / 2] >> (i % 2 * 4 + j) & 1) != 0;
        *out = static_cast<std::uint8_t>(negative ? zero - magnitude : zero + magnitude);
      }
    }
  }
  static int whole_scale(const std::uint8_t* b, int s) { return 1 + 2 * (b[106 + s / 2] >> (s % 2 * 4) & 15); }
  static SubScale scale(const std::uint8_t* b, int s) {
    return {load_half(b) * static_cast<float>(whole_scale(b, s)), 0};
  }
  static void quantize(const float* x, std::uint8_t* b) {
    float scales[8], top = 0;
    for (int s = 0; s < 8; ++s) top = std::max(top, scales[s] = codebook().fit(x + std::ptrdiff_t{32} * s));
    std::memset(b, 0, 110);
    store_half(b, top / 31);
    const float inverse = inverse_of(load_half(b)) / 2;
    for (int s = 0; s < 8; ++s)
      b[106 + s / 2] |= static_cast<std::uint8_t>(code(scales[s] - load_half(b), inverse, 0, 0, 15) << (s % 2 * 4));
    for (int i = 0; i < 64; ++i) {
      float sizes[4];
      for (int j = 0; j < 4; ++j) {
        sizes[j] = std::fabs(x[4 * i + j]) * inverse_of(scale(b, i / 8).scale);
        b[74 + i / 2] |= static_cast<std::uint8_t>((std::signbit(x[4 * i + j]) ? 1 : 0) << (i % 2 * 4 + j));
      }
      const int entry = codebook().nearest(sizes);
      b[2 + i] = static_cast<std::uint8_t>(entry);
      b[66 + i / 8] |= static_cast<std::uint8_t>((entry >> 8) << (i % 8));
    }
  }
};

}  // namespace llorch::quant
