// Least-squares choice of scale (and minimum) for a run of values: tries several scales and refits each by linear
// regression. A plain search of our own; exactness of files does not depend on it, only how close a quantized weight
// comes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace llorch::quant {

struct Fit {
  float scale = 0;
  float minimum = 0;  // value = scale * code - minimum
};

/// Codes 0..levels; `minimum` >= 0. n <= 32. Errors are weighted by x^2 + mean, so that large values keep their
/// precision.
inline Fit fit_affine(const float* x, int n, int levels) {
  float low = 0, high = x[0], power = 0;
  for (int i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    power += x[i] * x[i];
  }
  if (high <= low) return {0, -low};
  const float bias = std::sqrt(power / static_cast<float>(n));
  Fit best{(high - low) / static_cast<float>(levels), -low};
  double best_error = -1;
  for (int trial = 0; trial <= 16; ++trial) {
    const float inverse = (static_cast<float>(levels) - 0.8f + 0.1f * static_cast<float>(trial)) / (high - low);
    double sw = 0, sq = 0, sqq = 0, sx = 0, sxq = 0;
    for (int i = 0; i < n; ++i) {
      const double q = std::clamp(std::nearbyint((x[i] - low) * inverse), 0.0f, static_cast<float>(levels));
      const double w = std::fabs(x[i]) + bias;
      sw += w, sq += w * q, sqq += w * q * q, sx += w * x[i], sxq += w * x[i] * q;
    }
    const double determinant = sw * sqq - sq * sq;
    if (determinant <= 0) continue;
    double scale = (sw * sxq - sx * sq) / determinant, offset = (sqq * sx - sq * sxq) / determinant;
    if (offset > 0) offset = 0, scale = sqq > 0 ? sxq / sqq : 0;
    if (!(scale > 0)) continue;
    double error = 0;
    for (int i = 0; i < n; ++i) {
      const double q = std::clamp(std::nearbyint((x[i] - offset) / scale), 0.0, static_cast<double>(levels));
      const double d = scale * q + offset - x[i];
      error += (std::fabs(x[i]) + bias) * d * d;
    }
    if (best_error < 0 || error < best_error)
      best_error = error, best = {static_cast<float>(scale), static_cast<float>(-offset)};
  }
  return best;
}

/// The first value that none of the n exceeds in size; 0 of none. The size is kept apart: clang 19 (x86-64, -O1 and
/// above) takes a wrong value where |x[i]| is compared with |extreme| in an unrolled loop.
inline float extreme_of(const float* x, int n) {
  float extreme = 0, size = 0;
  for (int i = 0; i < n; ++i)
    if (const float s = std::fabs(x[i]); s > size) extreme = x[i], size = s;
  return extreme;
}

/// Signed codes -half..half-1; returns the scale (either sign). n <= 32.
inline float fit_symmetric(const float* x, int n, int half) {
  const float extreme = extreme_of(x, n);
  if (extreme == 0) return 0;
  float best = extreme / static_cast<float>(-half);
  double best_error = -1;
  for (int trial = -8; trial <= 8; ++trial) {
    const float inverse = (static_cast<float>(-half) + 0.1f * static_cast<float>(trial)) / extreme;
    double sxq = 0, sqq = 0;
    for (int i = 0; i < n; ++i) {
      const double q =
          std::clamp(std::nearbyint(x[i] * inverse), static_cast<float>(-half), static_cast<float>(half - 1));
      const double w = x[i] * x[i];
      sxq += w * q * x[i], sqq += w * q * q;
    }
    if (sqq <= 0) continue;
    const double gain = sxq * sxq / sqq, error = -gain;
    if (best_error == -1 || error < best_error) best_error = error, best = static_cast<float>(sxq / sqq);
  }
  return best;
}

[[nodiscard]] inline std::uint8_t code(float x, float inverse, float offset, int zero, int levels) {
  return static_cast<std::uint8_t>(
      std::clamp(std::nearbyint((x + offset) * inverse) + static_cast<float>(zero), 0.0f, static_cast<float>(levels)));
}

[[nodiscard]] inline float inverse_of(float scale) { return scale != 0 ? 1 / scale : 0; }

}  // namespace llorch::quant
