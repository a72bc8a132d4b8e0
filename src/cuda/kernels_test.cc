// The sample kernels against plain loops, on a GPU or on the emulated device in all of its orders: the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "base/half.h"
#include "cuda/sample_kernels.h"
#include "cuda/test_device.h"
#ifdef LLORCH_CUDA_EMULATED
#include "cuda/host/device.h"
#endif

namespace llorch::cuda {
namespace {

class Kernels : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = no_device(); !reason.empty()) GTEST_SKIP() << reason;
    stream_ = Stream::create().value();
  }
  /// What `run` gives under every order, which must be the same bits.
  template<class T>
  std::vector<T> in_all_orders(const std::function<Result<std::vector<T>>()>& run) {
    const auto first = run();
    if (!first) {
      ADD_FAILURE() << first.error().message;
      return {};
    }
#ifdef LLORCH_CUDA_EMULATED
    for (const char* order : {"reverse", "random:1", "random:2", "random:3", "forward"}) {
      host::Device::instance().set_order(host::Order::parse(order));
      const auto again = run();
      EXPECT_TRUE(again) << order << ": " << again.error().message;
      if (!again) continue;
      EXPECT_EQ(std::memcmp(first->data(), again->data(), first->size() * sizeof(T)), 0) << order;
    }
#endif
    return *first;
  }

  Stream stream_;
};

TEST_F(Kernels, sums_of_blocks) {
  constexpr unsigned kBlocks = 7;
  const auto values = random_floats(kBlocks * 256, 1);
  const DeviceMemory in = to_device(stream_, values);
  const auto sums = in_all_orders<float>([&] {
    const DeviceMemory out = on_device<float>(kBlocks);
    sample::sum_blocks(stream_.handle(), in.as<float>(), out.as<float>(), kBlocks);
    return from_device<float>(stream_, out);
  });
  ASSERT_EQ(sums.size(), kBlocks);
  for (unsigned b = 0; b < kBlocks; ++b) {
    const double expected = std::accumulate(values.begin() + b * 256, values.begin() + (b + 1) * 256, 0.0);
    EXPECT_NEAR(sums[b], expected, 256 * 0x1p-24) << "sums of less than 256 with 8 roundings";
  }
}

TEST_F(Kernels, sums_and_scans_of_warps) {
  constexpr unsigned kCount = 384;
  std::vector<int> values(kCount);
  for (unsigned i = 0; i < kCount; ++i) values[i] = static_cast<int>(mix64(i) % 2001) - 1000;
  const DeviceMemory in = to_device(stream_, values), scans = on_device<int>(kCount);
  const auto sums = in_all_orders<int>([&] {
    const DeviceMemory out = on_device<int>(kCount / 32);
    sample::sum_warps(stream_.handle(), in.as<int>(), out.as<int>(), scans.as<int>(), kCount);
    return from_device<int>(stream_, out);
  });
  const auto scan = from_device<int>(stream_, scans).value();
  ASSERT_EQ(sums.size(), kCount / 32);
  for (unsigned i = 0, sum = 0; i < kCount; ++i) {
    sum = (i % 32 == 0 ? 0 : sum) + static_cast<unsigned>(values[i]);
    ASSERT_EQ(scan[i], static_cast<int>(sum)) << i;
    if (i % 32 != 31) continue;
    ASSERT_EQ(sums[i / 32], static_cast<int>(sum)) << i;
  }
}

TEST_F(Kernels, counts_by_votes_and_atomics) {
  std::vector<int> values(1280);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int>(mix64(i) % 7) - 3;
  const DeviceMemory in = to_device(stream_, values);
  const auto total = in_all_orders<int>([&] {
    const DeviceMemory out = to_device(stream_, std::vector<int>{0});
    sample::count_positive(stream_.handle(), in.as<int>(), out.as<int>(), static_cast<unsigned>(values.size()));
    return from_device<int>(stream_, out);
  });
  ASSERT_EQ(total.size(), 1u);
  EXPECT_EQ(total[0], std::count_if(values.begin(), values.end(), [](int v) { return v > 0; }));
}

TEST_F(Kernels, conversions_round_to_nearest_even) {
  auto values = random_floats(500, 3);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= std::exp2(static_cast<float>(i % 50) - 30);
  for (const float special : {0.0f, -0.0f, 65504.0f, 65520.0f, 1e-8f, 0x1.002p0f, 0x1.006p0f, HUGE_VALF})
    values.push_back(special);
  const auto count = static_cast<unsigned>(values.size());
  const DeviceMemory in = to_device(stream_, values), halves = on_device<float>(count),
                     bfloats = on_device<float>(count);
  sample::round_trip(stream_.handle(), in.as<float>(), halves.as<float>(), bfloats.as<float>(), count);
  const auto half = from_device<float>(stream_, halves).value(), bfloat = from_device<float>(stream_, bfloats).value();
  for (unsigned i = 0; i < count; ++i) {
    EXPECT_EQ(half[i], half_to_float(float_to_half(values[i]))) << values[i];
    EXPECT_EQ(bfloat[i], bfloat_to_float(float_to_bfloat(values[i]))) << values[i];
  }
}

using Product16 = void (*)(StreamHandle, const std::uint16_t*, const std::uint16_t*, float*, unsigned, unsigned,
                           unsigned);

void check_product(
    Stream& stream, Product16 product, std::uint16_t (*narrow)(float), float (*widen)(std::uint16_t),
    const std::function<std::vector<float>(const std::function<Result<std::vector<float>>()>&)>& in_all_orders) {
  for (const auto& [m, n, k] : {std::tuple{64u, 8u, 32u}, {128u, 24u, 96u}, {64u, 16u, 256u}}) {
    std::vector<std::uint16_t> a(m * k), b(n * k);
    const auto values = random_floats(a.size() + b.size(), k);
    for (std::size_t i = 0; i < a.size(); ++i) a[i] = narrow(values[i]);
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = narrow(values[a.size() + i]);
    const DeviceMemory left = to_device(stream, a), right = to_device(stream, b);
    const auto d = in_all_orders([&, m = m, n = n, k = k] {
      const DeviceMemory out = on_device<float>(m * n);
      product(stream.handle(), left.as<std::uint16_t>(), right.as<std::uint16_t>(), out.as<float>(), m, n, k);
      return from_device<float>(stream, out);
    });
    ASSERT_EQ(d.size(), m * n);
    for (unsigned row = 0; row < m; ++row)
      for (unsigned column = 0; column < n; ++column) {
        double expected = 0, size = 0;
        for (unsigned i = 0; i < k; ++i) {
          const double term = double{widen(a[row * k + i])} * widen(b[column * k + i]);
          expected += term;
          size += std::abs(term);
        }
        // k sums, each rounded to 24 bits of at most the sum of sizes; a tensor core may cut where we round.
        const double tolerance = k * size * 0x1p-23, error = std::abs(d[row * n + column] - expected);
        ASSERT_TRUE(std::isfinite(d[row * n + column]) && error <= tolerance)
            << m << "x" << n << "x" << k << " at " << row << "," << column << ": " << error;
      }
  }
}

TEST_F(Kernels, products_of_16_bit_floats) {
  const auto all = [&](const auto& run) { return in_all_orders<float>(run); };
  check_product(stream_, sample::product_bf16, float_to_bfloat, bfloat_to_float, all);
  check_product(stream_, sample::product_f16, float_to_half, half_to_float, all);
}

template<class A>
void check_bytes(
    Stream& stream, void (*product)(StreamHandle, const A*, const std::int8_t*, int*, unsigned, unsigned, unsigned),
    const std::function<std::vector<int>(const std::function<Result<std::vector<int>>()>&)>& in_all_orders) {
  constexpr unsigned kM = 128, kN = 16, kK = 320;
  std::vector<A> a(kM * kK);
  std::vector<std::int8_t> b(kN * kK);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<A>(mix64(i));
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<std::int8_t>(mix64(i + a.size()));
  const DeviceMemory left = to_device(stream, a), right = to_device(stream, b);
  const auto d = in_all_orders([&] {
    const DeviceMemory out = on_device<int>(kM * kN);
    product(stream.handle(), left.template as<A>(), right.template as<std::int8_t>(), out.as<int>(), kM, kN, kK);
    return from_device<int>(stream, out);
  });
  ASSERT_EQ(d.size(), kM * kN);
  for (unsigned row = 0; row < kM; ++row)
    for (unsigned column = 0; column < kN; ++column) {
      int expected = 0;
      for (unsigned i = 0; i < kK; ++i) expected += a[row * kK + i] * b[column * kK + i];
      ASSERT_EQ(d[row * kN + column], expected) << row << "," << column;
    }
}

TEST_F(Kernels, products_of_bytes) {
  const auto all = [&](const auto& run) { return in_all_orders<int>(run); };
  check_bytes<std::int8_t>(stream_, sample::product_s8, all);
  check_bytes<std::uint8_t>(stream_, sample::product_u8s8, all);
}

TEST_F(Kernels, a_product_whose_right_side_is_transposed_by_ldmatrix) {
  std::vector<std::uint16_t> a(16 * 16), b(16 * 8);
  const auto values = random_floats(a.size() + b.size(), 9);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = float_to_bfloat(values[i]);
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = float_to_bfloat(values[a.size() + i]);
  const DeviceMemory left = to_device(stream_, a), right = to_device(stream_, b), out = on_device<float>(16 * 8);
  sample::product_transposed(stream_.handle(), left.as<std::uint16_t>(), right.as<std::uint16_t>(), out.as<float>());
  const auto d = from_device<float>(stream_, out).value();
  for (unsigned row = 0; row < 16; ++row)
    for (unsigned column = 0; column < 8; ++column) {
      double expected = 0;
      for (unsigned i = 0; i < 16; ++i)
        expected += double{bfloat_to_float(a[row * 16 + i])} * bfloat_to_float(b[i * 8 + column]);
      ASSERT_NEAR(d[row * 8 + column], expected, 16 * 16 * 0x1p-23) << row << "," << column;
    }
}

TEST_F(Kernels, a_graph_runs_again_what_was_captured) {
  std::vector<float> values(100, 1.0f);
  const DeviceMemory memory = to_device(stream_, values);
  ASSERT_TRUE(stream_.begin_capture());
  sample::scale(stream_.handle(), memory.as<float>(), memory.as<float>(), 2.0f, 100);
  sample::scale(stream_.handle(), memory.as<float>(), memory.as<float>(), 3.0f, 100);
  const Graph graph = stream_.end_capture().value();
  EXPECT_EQ(from_device<float>(stream_, memory).value(), values) << "a capture runs nothing";
  for (int i = 0; i < 3; ++i) check(stream_.launch(graph));
  EXPECT_EQ(from_device<float>(stream_, memory).value(), std::vector<float>(100, 216.0f));
}

TEST_F(Kernels, a_graph_of_two_streams_keeps_their_order) {
  Stream other = Stream::create().value();
  const Event begun = Event::create().value(), ended = Event::create().value();
  const DeviceMemory in = to_device(stream_, std::vector<float>(100, 1.0f)), left = on_device<float>(100),
                     right = on_device<float>(100);
  ASSERT_TRUE(stream_.begin_capture());
  sample::scale(stream_.handle(), in.as<float>(), left.as<float>(), 2.0f, 100);
  check(stream_.record(begun));
  check(other.wait(begun));
  sample::scale(other.handle(), left.as<float>(), right.as<float>(), 5.0f, 100);
  check(other.record(ended));
  sample::scale(stream_.handle(), in.as<float>(), in.as<float>(), 7.0f, 100);
  check(stream_.wait(ended));
  sample::scale(stream_.handle(), right.as<float>(), left.as<float>(), 3.0f, 100);
  const Graph graph = stream_.end_capture().value();
  const auto out = in_all_orders<float>([&]() -> Result<std::vector<float>> {
    std::vector<float> ones(100, 1.0f);
    LLORCH_OK(stream_.copy_to_device(in.data(), ones.data(), in.bytes()));
    LLORCH_OK(stream_.launch(graph));
    return from_device<float>(stream_, left);
  });
  EXPECT_EQ(out, std::vector<float>(100, 30.0f));
}

}  // namespace
}  // namespace llorch::cuda
