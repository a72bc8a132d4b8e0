// The head of a model that scores texts: numbers of one state, computed by the host in double.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace llorch {

/// scores = output(norm(activation(dense(state)))). A norm has no bias here.
struct Classifier {
  enum class Activation : std::uint8_t { kTanh, kGelu };  // kGelu: by the error function
  std::vector<float> dense, dense_bias;                   // (dim, dim), (dim); dense_bias may be empty
  Activation activation = Activation::kTanh;
  std::vector<float> norm;  // of a LayerNorm (dim), or empty
  float eps = 1e-5f;
  std::vector<float> output, output_bias;  // (labels, dim), (labels)
  bool mean = false;                       // of all states' mean, not of the first one

  [[nodiscard]] std::size_t labels() const { return output_bias.size(); }
  /// One for each label.
  [[nodiscard]] std::vector<float> scores(std::span<const double> state) const;
};

}  // namespace llorch
