// Operations on a CUDA device against the reference device: the same data on both, every element of every output within
// a bound, and the same bits under every order of threads.
#pragma once

#include <cmath>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include "base/random.h"
#include "cuda_devices.h"
#include "device/cpu/cpu_device.h"
#include "quant/table.h"
#include "test_data.h"

namespace llorch {

/// Sums of floats in a fixed order, against sums in double: of the largest true value of an output.
inline constexpr double kFloatBound = 1e-5;
inline constexpr const char* kOrders[] = {"forward", "reverse", "random:1", "random:2"};

/// In [-size, size).
inline std::vector<float> random_values(std::int64_t count, std::uint64_t which, double size = 1) {
  std::vector<float> out(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>(size * (2 * uniform(17, which, static_cast<std::uint64_t>(i)) - 1));
  return out;
}
/// One of low..high.
inline int random_number(std::uint64_t which, std::uint64_t i, int low, int high) {
  return low + static_cast<int>(uniform(23, which, i) * (high - low + 1));
}

/// A device, and what tests put on it.
class On {
 public:
  explicit On(std::unique_ptr<Device> device) : device_(std::move(device)) {}
  [[nodiscard]] Device& device() { return *device_; }
  FloatSpan put(std::int64_t rows, std::int64_t width, std::span<const float> from) {
    buffers_.push_back(device_->allocate(rows, width).value());
    device_->upload(from, buffers_.back().span());
    return buffers_.back().span();
  }
  FloatSpan put(std::int64_t rows, std::int64_t width, std::uint64_t which, double size = 1) {
    return put(rows, width, random_values(rows * width, which, size));
  }
  /// Nobody wrote it yet.
  FloatSpan room(std::int64_t rows, std::int64_t width) {
    buffers_.push_back(device_->allocate(rows, width).value());
    return buffers_.back().span();
  }
  /// A tensor of random values, `parts` of (rows, columns).
  TensorView tensor(std::int64_t rows, std::int64_t columns, DType type, std::uint64_t which) {
    const std::vector<float> x = random_values(rows * columns, which);
    auto& bytes = bytes_.emplace_back(row_bytes(type, x.size()));
    quant::row_ops(type).quantize(x.data(), x.size(), bytes.data());
    TensorView t;
    t.name = "w", t.type = type, t.n_dims = 2, t.data = bytes;
    t.dims = {static_cast<std::uint64_t>(columns), static_cast<std::uint64_t>(rows), 1, 1};
    return t;
  }
  const Weight* matrix(std::int64_t rows, std::int64_t columns, std::uint64_t which, DType type = DType::kF32,
                       std::int64_t parts = 1) {
    weights_.push_back(device_->matrix(tensor(rows * parts, columns, type, which), parts, {}).value());
    return weights_.back().get();
  }
  const Weight& table(std::int64_t rows, std::int64_t columns, std::uint64_t which, DType type = DType::kF32) {
    weights_.push_back(device_->table(tensor(rows, columns, type, which), {}).value());
    return *weights_.back();
  }
  [[nodiscard]] std::vector<float> get(FloatSpan from) {
    std::vector<float> out(from.size());
    device_->download(from, out);
    return out;
  }

 private:
  std::unique_ptr<Device> device_;
  std::list<std::vector<std::byte>> bytes_;
  std::vector<FloatBuffer> buffers_;
  std::vector<std::unique_ptr<Weight>> weights_;
};

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

/// What is computed on both devices, and under every order of threads.
inline void expect_conforms(const std::string& what, const Compute& compute, double bound = kFloatBound) {
  On reference(make_cpu_device("reference", 1).value());
  const Outputs want = compute(reference);
  Outputs first;
  for (const char* order : kOrders) {
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
    if (kSanitized && order == kOrders[1]) break;
  }
  set_cuda_order("forward");
}

}  // namespace llorch
