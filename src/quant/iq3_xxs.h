// IQ3_XXS: 256 values in 98 bytes. f16 d, 64 bytes of indices into a codebook of 256 times four magnitudes, then for
// each 32 values a word: four times seven bits of signs of eight values, whose eighth makes the number of minus signs
// even, and a scale in the upper four bits. x = +-d / 4 * (1 + 2 scale) * magnitude. Codes here are 62 + x's whole
// number. Source: the GGUF specification's block layouts.
#pragma once

#include "quant/iq3_s.h"

namespace llorch::quant {

struct IQ3_XXS {
  static constexpr DType type = DType::kIQ3_XXS;
  static constexpr int sub = 32, zero = 62;
  static constexpr float kLevels[8] = {4, 12, 20, 28, 36, 44, 52, 62};

  static std::uint32_t word(const std::uint8_t* b, int s) {
    return load<std::uint32_t>(b + 66 + std::ptrdiff_t{4} * s);
  }

  static const Codebook& codebook() {
    static const Codebook book(kGridIQ3_XXS, 256, kLevels);
    return book;
  }
  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int i = 0; i < 64; ++i) {
      const std::uint32_t seven = word(b, i / 8) >> (i % 8 / 2 * 7) & 127;
      const std::uint32_t signs = seven | (static_cast<std::uint32_t>(std::popcount(seven)) & 1) << 7;
      for (int j = 0; j < 4; ++j, ++out) {
        const int magnitude = static_cast<int>(kLevels[kGridIQ3_XXS[b[2 + i]] >> (3 * j) & 7]);
        const bool negative = (signs >> (i % 2 * 4 + j) & 1) != 0;
        *out = static_cast<std::uint8_t>(negative ? zero - magnitude : zero + magnitude);
      }
    }
  }
  static int whole_scale(const std::uint8_t* b, int s) { return 1 + 2 * static_cast<int>(word(b, s) >> 28); }
  static SubScale scale(const std::uint8_t* b, int s) {
    return {load_half(b) * 0.25f * static_cast<float>(whole_scale(b, s)), 0};
  }
  static void quantize(const float* x, std::uint8_t* b) {
    float scales[8], top = 0;
    for (int s = 0; s < 8; ++s) top = std::max(top, scales[s] = codebook().fit(x + std::ptrdiff_t{32} * s));
    std::memset(b, 0, 98);
    store_half(b, top * 4 / 31);
    const float unit = load_half(b) / 4;
    for (int s = 0; s < 8; ++s) {
      const std::uint32_t c = code(scales[s] - unit, inverse_of(unit) / 2, 0, 0, 15);
      store(b + 66 + std::ptrdiff_t{4} * s, c << 28);
      for (int g = 0; g < 4; ++g) put_eight(x + std::ptrdiff_t{32} * s + std::ptrdiff_t{8} * g, s, g, b);
    }
  }

 private:
  /// Group g of sub-block s. Where the minus signs are odd, the smallest value takes the other sign.
  static void put_eight(const float* x, int s, int g, std::uint8_t* b) {
    float sizes[8];
    std::uint32_t signs = 0;
    int least = 0;
    for (int j = 0; j < 8; ++j) {
      sizes[j] = std::fabs(x[j]) * inverse_of(scale(b, s).scale);
      if (std::signbit(x[j])) signs |= 1u << j;
      if (sizes[j] < sizes[least]) least = j;
    }
    if (std::popcount(signs) % 2 != 0) signs ^= 1u << least, sizes[least] = 0;
    for (int half = 0; half < 2; ++half)
      b[2 + 8 * s + 2 * g + half] = static_cast<std::uint8_t>(codebook().nearest(sizes + std::ptrdiff_t{4} * half));
    store(b + 66 + std::ptrdiff_t{4} * s, word(b, s) | (signs & 127) << (7 * g));
  }
};

}  // namespace llorch::quant
