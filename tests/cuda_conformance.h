// Operations on a CUDA device against the reference device: the same data on both, every element of every output within
// a bound, and the same bits under every order of threads.
#pragma once

#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cuda_devices.h"
#include "device/cpu/cpu_device.h"
#include "on_device.h"
#include "test_data.h"

namespace llorch {

/// Sums of floats in a fixed order, against sums in double: of the largest true value of an output.
inline constexpr double kFloatBound = 1e-5;
/// Of threads. A GPU has its own, and a sanitizer takes its time.
inline std::span<const char* const> test_orders() {
  static constexpr const char* kOrders[] = {"forward", "reverse", "random:1", "random:2"};
#ifdef LLORCH_CUDA_EMULATED
  return std::span(kOrders).first(kSanitized ? 2 : 4);
#else
  return std::span(kOrders).first(1);
#endif
}

/// One of low..high.
inline int random_number(std::uint64_t which, std::uint64_t i, int low, int high) {
  return low + static_cast<int>(uniform(23, which, i) * (high - low + 1));
}

/// Rows of one sequence from position 0 on, with pages that are there.
inline StepPlan plain_plan(int rows) {
  static const std::vector<std::int32_t> pages(64, 0);
  StepPlan plan;
  plan.add_sequence(pages);
  for (int i = 0; i < rows; ++i) plan.add_row(i % 7, i);
  return plan;
}

using Outputs = std::vector<std::vector<float>>;
using Compute = std::function<Outputs(On&)>;

inline void expect_near(const std::vector<float>& got, const std::vector<float>& want, double bound,
                        const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  ASSERT_FALSE(want.empty()) << what;
  double worst = 0, size = 0;
  std::size_t place = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i]) && std::isfinite(want[i])) << what << ", element " << i << ": " << got[i];
    const double off = std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    if (off > worst) worst = off, place = i;
    size = std::max(size, std::fabs(static_cast<double>(want[i])));
  }
  EXPECT_TRUE(worst <= bound * size) << what << ", element " << place << ": " << got[place] << " where " << want[place]
                                     << " is true, off by " << worst / size;
}

/// At its end the order of threads is forward again, whatever returned before.
struct ForwardAgain {
  ~ForwardAgain() { set_cuda_order("forward"); }
};

/// What is computed on both devices, and under every order of threads.
inline void expect_conforms(const std::string& what, const Compute& compute, double bound = kFloatBound) {
  On reference(make_cpu_device("reference", 1).value());
  const Outputs want = compute(reference);
  Outputs first;
  const ForwardAgain forward;
  for (const char* order : test_orders()) {
    set_cuda_order(order);
    On on(cuda_test_device());
    const Outputs got = compute(on);
    if (first.empty()) {
      ASSERT_EQ(got.size(), want.size()) << what;
      for (std::size_t i = 0; i < want.size(); ++i)
        expect_near(got[i], want[i], bound, fmt::format("{}, output {}", what, i));
      first = got;
    } else {
      EXPECT_EQ(got, first) << what << ": the bits depend on the order of threads, " << order;
    }
  }
}

}  // namespace llorch
