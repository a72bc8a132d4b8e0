// IQ4_XS: 256 values in 136 bytes. f16 d, 16 bits with the upper two bits of eight scales, 4 bytes of their lower
// nibbles, then for each 32 values 16 bytes of nibbles as in IQ4_NL. x = d * (scale - 32) * level. Codes here are level
// + 128, so that they are unsigned. Source: the GGUF specification's block layouts.
#pragma once

#include "quant/iq4_nl.h"

namespace llorch::quant {

struct IQ4_XS {
  static constexpr DType type = DType::kIQ4_XS;
  static constexpr int sub = 32, zero = 128;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int s = 0; s < 8; ++s, out += 32)
      for (int j = 0; j < 16; ++j) {
        const std::uint8_t both = b[8 + 16 * s + j];
        out[j] = static_cast<std::uint8_t>(IQ4_NL::kLevels[both & 15] + zero);
        out[j + 16] = static_cast<std::uint8_t>(IQ4_NL::kLevels[both >> 4] + zero);
      }
  }
  /// The 6-bit scale of 32 values, already less 32.
  static int whole_scale(const std::uint8_t* b, int s) {
    const int low = b[4 + s / 2] >> (s % 2 * 4) & 15, high = load<std::uint16_t>(b + 2) >> (2 * s) & 3;
    return (low | high << 4) - 32;
  }
  static SubScale scale(const std::uint8_t* b, int s) {
    return {load_half(b) * static_cast<float>(whole_scale(b, s)), 0};
  }
  static void quantize(const float* x, std::uint8_t* b) {
    float scales[8];
    for (int s = 0; s < 8; ++s) scales[s] = IQ4_NL::fit(x + std::ptrdiff_t{32} * s);
    const float extreme = extreme_of(scales, 8);
    std::memset(b, 0, 8);
    store_half(b, extreme / -32);
    const float inverse = inverse_of(load_half(b));
    std::uint16_t high = 0;
    for (int s = 0; s < 8; ++s) {
      const std::uint8_t c = code(scales[s], inverse, 0, 32, 63);
      b[4 + s / 2] |= static_cast<std::uint8_t>((c & 15) << (s % 2 * 4));
      high = static_cast<std::uint16_t>(high | (c >> 4) << (2 * s));
    }
    store(b + 2, high);
    for (int s = 0; s < 8; ++s)
      IQ4_NL::put(x + std::ptrdiff_t{32} * s, scale(b, s).scale, b + 8 + std::ptrdiff_t{16} * s);
  }
};

}  // namespace llorch::quant
