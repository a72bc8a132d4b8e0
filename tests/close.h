// Comparison of numbers that cannot pass by accident: non-finite values, empty input and different shapes fail first
// (T-07).
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <span>

namespace llorch {

struct Closeness {
  double error = 0;       // largest absolute difference over the largest absolute expected value
  double l2 = 0;          // norm of the difference over the norm of the expected values
  std::size_t worst = 0;  // index of the largest difference
};

/// The closeness of `got` to `want`, or a failure that says why they cannot be compared.
inline testing::AssertionResult measure(std::span<const float> got, std::span<const float> want, Closeness& out) {
  if (got.size() != want.size())
    return testing::AssertionFailure() << got.size() << " values, expected " << want.size();
  if (got.empty()) return testing::AssertionFailure() << "nothing to compare";
  double scale = 0, difference = 0, square = 0, square_want = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i]) || !std::isfinite(want[i]))
      return testing::AssertionFailure() << "value " << i << " is not finite: " << got[i] << ", expected " << want[i];
    const double d = std::fabs(static_cast<double>(got[i]) - want[i]);
    if (d > difference) difference = d, out.worst = i;
    scale = std::max(scale, std::fabs(static_cast<double>(want[i])));
    square += d * d, square_want += static_cast<double>(want[i]) * want[i];
  }
  if (!(scale > 0)) return testing::AssertionFailure() << "the expected values are all zero";
  out.error = difference / scale;
  out.l2 = std::sqrt(square / square_want);
  return testing::AssertionSuccess();
}

/// Success when the largest difference is at most `tolerance` times the largest expected value.
inline testing::AssertionResult close(std::span<const float> got, std::span<const float> want, double tolerance) {
  Closeness c;
  if (const auto comparable = measure(got, want, c); !comparable) return comparable;
  if (!(c.error <= tolerance))
    return testing::AssertionFailure() << "error " << c.error << " at value " << c.worst << " (" << got[c.worst]
                                       << ", expected " << want[c.worst] << ") exceeds " << tolerance;
  return testing::AssertionSuccess();
}

}  // namespace llorch
