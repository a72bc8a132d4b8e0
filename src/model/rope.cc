#include "model/rope.h"

#include <algorithm>
#include <cmath>

namespace llorch {

void RopeSpec::fill(std::int32_t position, std::span<float> cos, std::span<float> sin) const {
  const double factor = magnitude * (1 + growth * std::log1p(std::floor((position + growth_offset) / growth_every)));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    cos[i] = static_cast<float>(std::cos(position * frequencies[i]) * factor);
    sin[i] = static_cast<float>(std::sin(position * frequencies[i]) * factor);
  }
}

std::vector<double> rope_frequencies(int rotated, double base) {
  std::vector<double> f;
  for (int i = 0; i < rotated / 2; ++i) f.push_back(std::pow(base, -2.0 * i / rotated));
  return f;
}

std::vector<double> yarn_frequencies(int rotated, double base, double factor, double original_context, double beta_fast,
                                     double beta_slow, bool round_range) {
  // The dimension whose wave turns `turns` times within the original context.
  const auto dimension = [&](double turns) {
    return rotated * std::log(original_context / (turns * 2 * M_PI)) / (2 * std::log(base));
  };
  double low = dimension(beta_fast), high = dimension(beta_slow);
  if (round_range) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, rotated - 1.0);
  if (low == high) high += 0.001;
  std::vector<double> f = rope_frequencies(rotated, base);
  for (std::size_t i = 0; i < f.size(); ++i) {
    const double interpolated = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    f[i] = f[i] / factor * interpolated + f[i] * (1 - interpolated);
  }
  return f;
}

double yarn_magnitude(double factor) { return factor <= 1 ? 1 : 0.1 * std::log(factor) + 1; }

std::vector<double> llama3_factors(int rotated, double base, double factor, double low, double high,
                                   double original_context) {
  std::vector<double> result;
  for (const double f : rope_frequencies(rotated, base)) {
    const double wavelength = 2 * M_PI / f;
    if (wavelength < original_context / high)
      result.push_back(1);
    else if (wavelength > original_context / low)
      result.push_back(factor);
    else {
      const double smooth = (original_context / wavelength - low) / (high - low);
      result.push_back(1 / ((1 - smooth) / factor + smooth));
    }
  }
  return result;
}

}  // namespace llorch
