// NVFP4: 64 values in 36 bytes. Four E4M3 scales without sign, one for 16 values, then for each 16 values 8 bytes: low
// nibble of byte j is value j, high nibble value j + 8, each an E2M1 number as in MXFP4. Codes here are twice the
// number plus 12. A scale of 0x7F is NaN in E4M3: files that hold one are refused at load; here it is 0, as for the
// `gguf` package. A second scale for a whole tensor is a tensor of its own ("<name>.scale"), which no family here
// reads. Source: NVIDIA 2025, "Pretraining Large Language Models with NVFP4"; OCP 8-bit Floating Point Specification.
#pragma once

#include "quant/bits.h"
#include "quant/fit.h"
#include "quant/format.h"
#include "quant/mxfp4.h"

namespace llorch::quant {

struct NVFP4 {
  static constexpr DType type = DType::kNVFP4;
  static constexpr int sub = 16, zero = MXFP4::zero;

  static void codes(const std::uint8_t* b, std::uint8_t* out) {
    for (int s = 0; s < 4; ++s, out += 16)
      for (int j = 0; j < 8; ++j) {
        const std::uint8_t both = b[4 + 8 * s + j];
        out[j] = MXFP4::kCodes[both & 15], out[j + 8] = MXFP4::kCodes[both >> 4];
      }
  }
  static bool is_nan(std::uint8_t scale) { return (scale & 0x7f) == 0x7f; }
  /// Half the scale, over 128, as f16: an E4M3 number without sign lies in an f16's bits as it is, 2^8 smaller.
  static std::uint16_t half_of(std::uint8_t scale) {
    return scale == 0x7f ? 0 : static_cast<std::uint16_t>((scale & 0x7f) << 7);
  }
  static SubScale scale(const std::uint8_t* b, int s) { return {half_to_float(half_of(b[s])) * 128, 0}; }

  /// The nearest E4M3 number that is finite, of x >= 0.
  static std::uint8_t nearest_scale(float x) {
    if (!(x > 0)) return 0;
    const int e = std::clamp(std::ilogb(x), -6, 8);
    const auto q = static_cast<int>(std::nearbyint(std::ldexp(x, 3 - e)));
    return static_cast<std::uint8_t>(std::min((e + 6) * 8 + q, 0x7e));
  }
  /// 16 values with the scale that suits them: their largest one is 6 or 4 of it.
  static void quantize_part(const float* x, std::uint8_t& scale, std::uint8_t* nibbles) {
    float extreme = 0, least = -1;
    for (int j = 0; j < 16; ++j) extreme = std::max(extreme, std::fabs(x[j]));
    for (const float level : {6.0f, 4.0f}) {
      const std::uint8_t tried = nearest_scale(extreme / level);
      const float unit = 2 * scale_of(tried), inverse = inverse_of(unit);
      std::uint8_t numbers[16];
      float error = 0;
      for (int j = 0; j < 16; ++j) {
        numbers[j] = MXFP4::nearest(x[j] * inverse);
        const float off = x[j] - unit / 2 * static_cast<float>(MXFP4::kCodes[numbers[j]] - zero);
        error += off * off;
      }
      if (least >= 0 && error >= least) continue;
      least = error, scale = tried;
      for (int j = 0; j < 8; ++j) nibbles[j] = static_cast<std::uint8_t>(numbers[j] | numbers[j + 8] << 4);
    }
  }
  static void quantize(const float* x, std::uint8_t* b) {
    for (std::ptrdiff_t s = 0; s < 4; ++s) quantize_part(x + 16 * s, b[s], b + 4 + 8 * s);
  }

 private:
  static float scale_of(std::uint8_t byte) { return scale(&byte, 0).scale; }
};

}  // namespace llorch::quant
