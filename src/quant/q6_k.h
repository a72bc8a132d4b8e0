// Q6_K: 256 values in 210 bytes. 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales of 16 values
// each, f16 d. x = d * scale * (code - 32). In half h, nibble byte l (0..63) holds values 128h + l low and 128h + 64 +
// l high; pair byte l (0..31) holds the upper bits of values 128h + 32j + l at bits 2j. Source: the GGUF
// specification's block layouts.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

struct Q6_K {
  static constexpr DType type = DType::kQ6_K;
  static constexpr int sub = 16, zero = 32;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int half = 0; half < 2; ++half, out += 128)
      for (int j = 0; j < 32; ++j) {
        const std::uint8_t first = b[half * 64 + j], second = b[half * 64 + 32 + j], high = b[128 + half * 32 + j];
        out[j] = static_cast<std::uint8_t>((first & 15) | (high & 3) << 4);
        out[32 + j] = static_cast<std::uint8_t>((second & 15) | (high >> 2 & 3) << 4);
        out[64 + j] = static_cast<std::uint8_t>(first >> 4 | (high >> 4 & 3) << 4);
        out[96 + j] = static_cast<std::uint8_t>(second >> 4 | (high >> 6) << 4);
      }
  }
  static SubScale scale(const std::uint8_t* b, int s) {
    return {load_half(b + 208) * static_cast<float>(static_cast<std::int8_t>(b[192 + s])), 0};
  }
  static void quantize(const float* x, std::uint8_t* b) {
    float scales[16];
    for (int s = 0; s < 16; ++s) scales[s] = fit_symmetric(x + std::ptrdiff_t{16} * s, 16, 32);
    const float extreme = extreme_of(scales, 16);
    std::memset(b, 0, 210);
    store_half(b + 208, extreme / -128);
    const float inverse = inverse_of(load_half(b + 208));
    for (int s = 0; s < 16; ++s) b[192 + s] = static_cast<std::uint8_t>(code(scales[s], inverse, 0, 128, 255) ^ 0x80);
    for (int i = 0; i < 256; ++i) {
      const int half = i / 128, in = i % 128;
      const std::uint8_t c = code(x[i], inverse_of(scale(b, i / 16).scale), 0, 32, 63);
      b[half * 64 + in % 64] |= static_cast<std::uint8_t>((c & 15) << (in / 64 * 4));
      b[128 + half * 32 + in % 32] |= static_cast<std::uint8_t>((c >> 4) << (in / 32 * 2));
    }
  }
};

}  // namespace llorch::quant
