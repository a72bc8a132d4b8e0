// Mixtures against loops in double: routings, activations, types, numbers of rows; a row's bits alone and among others.
#include "cuda/kernel/mixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "cuda/test_device.h"
#include "quant/table.h"
#ifdef LLORCH_CUDA_EMULATED
#include "cuda/host/device.h"
#endif

namespace llorch::cuda {
namespace {

using Floats = std::vector<float>;
std::size_t u(std::int64_t v) { return static_cast<std::size_t>(v); }

struct Part {
  Floats values;
  DeviceMemory memory;
  Matrix matrix;
};

struct Mixture {
  Routing routing;
  Activation activation;
  std::int64_t experts = 8, dim = 256, width = 64;
  DType gate_type = DType::kQ8_0, up_type = DType::kQ8_0, down_type = DType::kQ8_0;
  bool biases = false;
};

class Mixtures : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = no_device(); !reason.empty()) GTEST_SKIP() << reason;
    stream_ = Stream::create().value();
  }

  Part part(DType type, std::int64_t parts, std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
    Part out;
    const Floats from = random_floats(u(parts * rows * columns), seed);
    out.values.resize(from.size());
    const std::int64_t bytes = panel_bytes(type, columns), panels = (rows + 15) / 16;
    const std::uint64_t stride = row_bytes(type, u(columns));
    std::vector<std::byte> raw(stride * u(parts * rows));
    std::vector<std::byte> packed(u(parts * panels * bytes));
    for (std::size_t r = 0; r < u(parts * rows); ++r) {
      quant::row_ops(type).quantize(from.data() + r * u(columns), u(columns), raw.data() + r * stride);
      quant::row_ops(type).dequantize(raw.data() + r * stride, u(columns), out.values.data() + r * u(columns));
    }
    for (std::int64_t i = 0; i < parts * panels; ++i)
      pack_panel(type, columns, raw.data() + u(i / panels * rows + i % panels * 16) * stride,
                 static_cast<int>(std::min<std::int64_t>(16, rows - i % panels * 16)), packed.data() + u(i * bytes));
    out.memory = to_device(stream_, packed);
    out.matrix = {type, out.memory.as<std::byte>(), rows, columns, parts, bytes};
    return out;
  }

  /// Its weights and biases on the device.
  struct Loaded {
    Mixture shape;
    Part gate, up, down;
    Floats gate_bias, up_bias, down_bias;
    DeviceMemory gate_bias_memory, up_bias_memory, down_bias_memory;
  };
  Loaded load(const Mixture& m) {
    Loaded out{.shape = m,
               .gate = part(m.gate_type, m.experts, m.width, m.dim, 1),
               .up = part(m.up_type, m.experts, m.width, m.dim, 2),
               .down = part(m.down_type, m.experts, m.dim, m.width, 3)};
    out.gate_bias = random_floats(u(m.experts * m.width), 4), out.up_bias = random_floats(u(m.experts * m.width), 5);
    out.down_bias = random_floats(u(m.experts * m.dim), 6);
    out.gate_bias_memory = to_device(stream_, out.gate_bias), out.up_bias_memory = to_device(stream_, out.up_bias);
    out.down_bias_memory = to_device(stream_, out.down_bias);
    return out;
  }

  struct Output {
    Floats out, weights;
    std::vector<std::int32_t> chosen;
    std::vector<unsigned> faults;
  };
  Output run(const Loaded& m, const Floats& x, const Floats& logits) {
    const std::int64_t rows = static_cast<std::int64_t>(x.size()) / m.shape.dim, active = m.shape.routing.active;
    const DeviceMemory x_memory = to_device(stream_, x), logits_memory = to_device(stream_, logits);
    const DeviceMemory chosen = on_device<std::int32_t>(u(rows * active)), weights = on_device<float>(u(rows * active));
    const DeviceMemory out = to_device(stream_, Floats(u(rows * m.shape.dim) + 32, 12345.0f));
    const DeviceMemory faults = to_device(stream_, std::vector<unsigned>(u(rows)));
    MixCall c;
    c.route = {m.shape.routing,           logits_memory.as<float>(), rows, m.shape.experts, nullptr, nullptr,
               chosen.as<std::int32_t>(), weights.as<float>()};
    if (m.shape.activation.gated()) c.gate = m.gate.matrix;
    c.up = m.up.matrix, c.down = m.down.matrix;
    if (m.shape.biases) {
      c.gate_bias = m.gate_bias_memory.as<float>(), c.up_bias = m.up_bias_memory.as<float>();
      c.down_bias = m.down_bias_memory.as<float>();
    }
    c.activation = m.shape.activation, c.x = x_memory.as<float>(), c.out = out.as<float>();
    c.mark = {faults.as<unsigned>(), nullptr, 0, 7};
    const DeviceMemory room = DeviceMemory::allocate(mixture_bytes(c)).value();
    c.room = room.data();
    mix(stream_.handle(), c);
    const auto result = from_device<float>(stream_, out);
    EXPECT_TRUE(result) << result.error().message;
    if (!result) return {};
    for (std::size_t i = u(rows * m.shape.dim); i < result->size(); ++i) EXPECT_EQ((*result)[i], 12345.0f);
    return {Floats(result->begin(), result->end() - 32), from_device<float>(stream_, weights).value(),
            from_device<std::int32_t>(stream_, chosen).value(), from_device<unsigned>(stream_, faults).value()};
  }

  Stream stream_;
};

double activated(const Activation& a, double gate, double up) {
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  if (a.kind == Activation::Kind::kReluSquared) return gate > 0 ? gate * gate : 0;
  if (a.kind == Activation::Kind::kSiluMul) return gate * sigmoid(gate) * up;
  const double c = std::min(gate, double{a.limit}), v = std::clamp(up, -double{a.limit}, double{a.limit});
  return c * sigmoid(a.alpha * c) * (v + 1);
}

double dot(const Part& p, std::int64_t expert, std::int64_t row, const std::vector<double>& x) {
  const float* w = p.values.data() + u((expert * p.matrix.rows + row) * p.matrix.columns);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += w[i] * x[i];
  return sum;
}

/// With the experts and weights that the device chose. Activations are not rounded here: the bound is that of codes.
template<class Loaded, class Output>
void check_row(const Loaded& m, const Floats& x, const Output& got, std::int64_t r, double bound) {
  const std::int64_t active = m.shape.routing.active, dim = m.shape.dim;
  std::vector<double> sum(u(dim));
  double size = 0;
  for (std::int64_t k = 0; k < active; ++k) {
    const std::int64_t e = got.chosen[u(r * active + k)];
    const double weight = got.weights[u(r * active + k)];
    const bool of_input = m.shape.routing.of_input;
    std::vector<double> seen(x.begin() + r * dim, x.begin() + (r + 1) * dim), inside;
    for (double& v : seen) v *= of_input ? weight : 1;
    for (std::int64_t i = 0; i < m.shape.width; ++i) {
      const double up = dot(m.up, e, i, seen) + (m.shape.biases ? m.up_bias[u(e * m.shape.width + i)] : 0);
      const double gate = !m.shape.activation.gated()
                              ? up
                              : dot(m.gate, e, i, seen) + (m.shape.biases ? m.gate_bias[u(e * m.shape.width + i)] : 0);
      inside.push_back(activated(m.shape.activation, gate, up));
    }
    for (std::int64_t i = 0; i < dim; ++i) {
      const double value = dot(m.down, e, i, inside) + (m.shape.biases ? m.down_bias[u(e * dim + i)] : 0);
      sum[u(i)] += (of_input ? 1 : weight) * value;
    }
  }
  for (const double v : sum) size = std::max(size, std::fabs(v));
  for (std::int64_t i = 0; i < dim; ++i)
    ASSERT_LE(std::fabs(got.out[u(r * dim + i)] - sum[u(i)]), bound * (size + 1)) << "row " << r << " at " << i;
}

std::vector<Mixture> mixtures() {
  Mixture softmax, sigmoid, clamped, plain;
  softmax.routing = {.active = 2};
  sigmoid.routing = {.score = Routing::Score::kSigmoid, .active = 3, .normalize = true, .scale = 2.5f};
  sigmoid.routing.groups = 4, sigmoid.routing.groups_active = 2;
  sigmoid.up_type = DType::kF16, sigmoid.gate_type = DType::kQ4_K, sigmoid.down_type = DType::kBF16;
  clamped.routing = {.active = 4}, clamped.biases = true, clamped.width = 96;
  clamped.activation = {Activation::Kind::kSwigluClamped, 7, 1.702f};
  clamped.gate_type = clamped.up_type = clamped.down_type = DType::kMXFP4;
  plain.routing = {.score = Routing::Score::kSigmoid, .active = 1, .of_input = true}, plain.experts = 3;
  plain.activation.kind = Activation::Kind::kReluSquared, plain.width = 33, plain.dim = 40;
  plain.up_type = plain.down_type = DType::kF32;
  return {softmax, sigmoid, clamped, plain};
}

Floats logits_for(const Mixture& m, std::int64_t rows) {
  Floats logits = random_floats(u(rows * m.experts), 12);
  for (float& v : logits) v *= 4;
  return logits;
}

TEST_F(Mixtures, equal_a_double_loop) {
  for (const Mixture& m : mixtures()) {
    const Loaded loaded = load(m);
    for (const std::int64_t rows : {1, 2, 21, 70}) {
      const Floats x = random_floats(u(rows * m.dim), 11);
      const Output got = run(loaded, x, logits_for(m, rows));
      ASSERT_EQ(got.out.size(), x.size());
      for (std::int64_t r = 0; r < rows; ++r) check_row(loaded, x, got, r, m.up_type == DType::kF32 ? 1e-5 : 2e-2);
      for (const unsigned fault : got.faults) ASSERT_EQ(fault, 0u);
    }
  }
}

/// Which changes how its experts' rows are grouped; 1,030 rows go in two parts.
TEST_F(Mixtures, a_row_has_the_same_bits_alone_and_among_others) {
  for (const Mixture& m : mixtures()) {
    const Loaded loaded = load(m);
    const std::int64_t rows = m.dim == 40 ? 1030 : 110;
    const Floats x = random_floats(u(rows * m.dim), 13), logits = logits_for(m, rows);
    const Output all = run(loaded, x, logits);
    ASSERT_EQ(all.out.size(), x.size());
    for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, 1}, {7, 1}, {30, 20}, {rows - 3, 3}}) {
      const Output some = run(loaded, Floats(x.begin() + first * m.dim, x.begin() + (first + count) * m.dim),
                              Floats(logits.begin() + first * m.experts, logits.begin() + (first + count) * m.experts));
      ASSERT_EQ(some.out.size(), u(count * m.dim));
      EXPECT_EQ(std::memcmp(some.out.data(), all.out.data() + first * m.dim, some.out.size() * sizeof(float)), 0)
          << "rows from " << first;
    }
  }
}

#ifdef LLORCH_CUDA_EMULATED
TEST_F(Mixtures, have_the_same_bits_in_every_order_of_threads) {
  for (const Mixture& m : mixtures()) {
    const Loaded loaded = load(m);
    const Floats x = random_floats(u(13 * m.dim), 15);
    std::optional<Output> first;
    for (const char* order : {"forward", "reverse", "random:1", "forward"}) {
      host::Device::instance().set_order(host::Order::parse(order));
      const Output got = run(loaded, x, logits_for(m, 13));
      ASSERT_EQ(got.out.size(), x.size());
      if (!first) first = got;
      EXPECT_EQ(std::memcmp(first->out.data(), got.out.data(), x.size() * sizeof(float)), 0) << order;
    }
  }
}
#endif

TEST_F(Mixtures, a_row_that_is_not_finite_is_blamed_alone) {
  Mixture m;
  m.routing = {.active = 2};
  const Loaded loaded = load(m);
  Floats x = random_floats(u(9 * m.dim), 16);
  const Output before = run(loaded, x, logits_for(m, 9));
  x[u(4 * m.dim + 5)] = std::numeric_limits<float>::infinity();
  const Output got = run(loaded, x, logits_for(m, 9));
  ASSERT_EQ(got.faults.size(), 9u);
  for (std::size_t r = 0; r < 9; ++r) {
    EXPECT_EQ(got.faults[r], r == 4 ? 7u : 0u);
    for (std::size_t i = r * u(m.dim); i < (r + 1) * u(m.dim); ++i)
      EXPECT_EQ(got.out[i], r == 4 ? 0.0f : before.out[i]);
  }
}

}  // namespace
}  // namespace llorch::cuda
