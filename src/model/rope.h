// Rotary position embedding: frequencies per family and scaling rule, and the tables of one batch.
//
// Frequencies are doubles; cos and sin are computed in double and rounded once. Sources: RoFormer (Su et al. 2021) for
// the base form; YaRN (Peng et al. 2023) section 3; the Llama 3.1 and LongRoPE (Ding et al. 2024) rules as their model
// configurations state them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace llorch {

struct RopeSpec {
  int rotated = 0;                  // values of a head that turn; even
  bool adjacent = false;            // pairs (2i, 2i+1); else (i, i + rotated/2)
  std::vector<double> frequencies;  // rotated / 2, radians per position
  double magnitude = 1;             // factor on cos and sin
  // And times 1 + growth * ln(1 + floor((position + growth_offset) / growth_every)): a temperature of queries.
  double growth = 0, growth_every = 1, growth_offset = 0;

  /// cos and sin of one position, rotated / 2 values each.
  void fill(std::int32_t position, std::span<float> cos, std::span<float> sin) const;
};

/// base^(-2i/rotated).
[[nodiscard]] std::vector<double> rope_frequencies(int rotated, double base);

/// YaRN: interpolates slow dimensions by `factor`, keeps fast ones, ramps between the dimensions that turn beta_fast
/// and beta_slow times within the original context. `round_range`: the ramp's ends are rounded outward to whole
/// dimensions.
[[nodiscard]] std::vector<double> yarn_frequencies(int rotated, double base, double factor, double original_context,
                                                   double beta_fast, double beta_slow, bool round_range);
/// 0.1 ln(factor) + 1.
[[nodiscard]] double yarn_magnitude(double factor);

/// Llama 3.1's factor per dimension, by which frequencies are divided.
[[nodiscard]] std::vector<double> llama3_factors(int rotated, double base, double factor, double low, double high,
                                                 double original_context);

}  // namespace llorch
