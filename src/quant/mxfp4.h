// MXFP4: 32 values in 17 bytes. One E8M0 scale 2^(e-127), then 16 bytes: low nibble of byte j is value j, high nibble
// value j+16, each an E2M1 number {0, .5, 1, 1.5, 2, 3, 4, 6} with sign. Codes here are twice the number plus 12. Scale
// byte 0xFF is NaN: files that hold one are refused at load (E-08). Source: OCP Microscaling Formats (MX) v1.0.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"

namespace llorch::quant {

/// 2^(e-127), exact also for e = 0 (a subnormal float).
[[nodiscard]] inline float e8m0_to_float(std::uint8_t e) {
  return e == 0 ? 0x1p-127f : std::bit_cast<float>(static_cast<std::uint32_t>(e) << 23);
}
/// Half of it, so that integer codes of doubled E2M1 numbers stay exact.
[[nodiscard]] inline float e8m0_to_half_float(std::uint8_t e) {
  return e < 2 ? std::bit_cast<float>(0x00200000u << e) : std::bit_cast<float>(static_cast<std::uint32_t>(e - 1) << 23);
}

struct MXFP4 {
  static constexpr DType type = DType::kMXFP4;
  static constexpr int sub = 32, zero = 12;
  static constexpr std::uint8_t kCodes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int j = 0; j < 16; ++j) out[j] = kCodes[b[1 + j] & 15], out[j + 16] = kCodes[b[1 + j] >> 4];
  }
  static SubScale scale(const std::uint8_t* b, int) { return {e8m0_to_half_float(b[0]), 0}; }

  /// Nearest E2M1 number of x, which is given in units of the scale; ties go to the even mantissa.
  static std::uint8_t nearest(float x) {
    constexpr float kMagnitudes[8] = {0, .5f, 1, 1.5f, 2, 3, 4, 6};
    int best = 0;
    for (int i = 1; i < 8; ++i) {
      const float a = std::fabs(std::fabs(x) - kMagnitudes[i]), c = std::fabs(std::fabs(x) - kMagnitudes[best]);
      if (a < c || (a == c && i % 2 == 0)) best = i;
    }
    return static_cast<std::uint8_t>(best | (std::signbit(x) ? 8 : 0));
  }
  static void quantize(const float* x, std::uint8_t* b) {
    float extreme = 0;
    for (int j = 0; j < 32; ++j) extreme = std::max(extreme, std::fabs(x[j]));
    // The largest E2M1 exponent is 2: the scale is that of the largest value, less two.
    const int e = extreme > 0 ? std::clamp(std::ilogb(extreme) - 2 + 127, 0, 254) : 0;
    b[0] = static_cast<std::uint8_t>(e);
    const float inverse = 1 / e8m0_to_float(b[0]);
    for (int j = 0; j < 16; ++j)
      b[1 + j] = static_cast<std::uint8_t>(nearest(x[j] * inverse) | nearest(x[j + 16] * inverse) << 4);
  }
};

}  // namespace llorch::quant
