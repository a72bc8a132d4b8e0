#include "model/classifier.h"

#include <cmath>

namespace llorch {
namespace {

std::vector<double> product(std::span<const float> weight, std::span<const float> bias, std::span<const double> x) {
  std::vector<double> out(weight.size() / x.size());
  for (std::size_t r = 0; r < out.size(); ++r) {
    out[r] = bias.empty() ? 0 : static_cast<double>(bias[r]);
    for (std::size_t i = 0; i < x.size(); ++i) out[r] += static_cast<double>(weight[r * x.size() + i]) * x[i];
  }
  return out;
}

void normalize(std::span<const float> weight, double eps, std::span<double> x) {
  const auto count = static_cast<double>(x.size());
  double mean = 0, variance = 0;
  for (const double v : x) mean += v / count;
  for (const double v : x) variance += (v - mean) * (v - mean) / count;
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = (x[i] - mean) / std::sqrt(variance + eps) * static_cast<double>(weight[i]);
}

}  // namespace

std::vector<float> Classifier::scores(std::span<const double> state) const {
  std::vector<double> x = product(dense, dense_bias, state);
  for (double& v : x) v = activation == Activation::kTanh ? std::tanh(v) : v / 2 * (1 + std::erf(v / std::sqrt(2.0)));
  if (!norm.empty()) normalize(norm, static_cast<double>(eps), x);
  const std::vector<double> out = product(output, output_bias, x);
  return {out.begin(), out.end()};
}

}  // namespace llorch
