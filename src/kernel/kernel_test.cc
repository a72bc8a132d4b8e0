// Every kernel of every ISA that this machine runs, against plain loops in double, at odd sizes and with guard values
// behind every output.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"
#include "kernel/activations.h"
#include "kernel/kernels.h"
#include "kernel/pack.h"
#include "kernel/packed_bytes.h"
#include "quant/table.h"

namespace llorch::kernel {
namespace {

using Floats = std::vector<float>;
constexpr float kGuard = 12345.0f;

Floats random_floats(std::size_t n, std::uint64_t seed, float scale = 1) {
  Floats x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(uniform(seed, 0, i) * 2 - 1) * scale;
  return x;
}

Floats guarded(std::size_t n) {
  Floats x(n + 16, kGuard);
  return x;
}
void expect_guards(const Floats& x, std::size_t n, const char* what) {
  for (std::size_t i = n; i < x.size(); ++i) ASSERT_EQ(x[i], kGuard) << what << " wrote behind its output";
}

class Isa : public testing::TestWithParam<const Kernels*> {
 protected:
  const Kernels& k() const { return *GetParam(); }
};

std::vector<const Kernels*> isas() {
  int count = 0;
  const Kernels* const* all = all_kernels(count);
  return {all, all + count};
}

Activations converted(const Kernels& k, DType type, const Floats& x, std::int64_t columns) {
  const auto rows = static_cast<std::int64_t>(x.size()) / columns;
  Activations out;
  out.resize(k, type, rows, columns);
  for (std::int64_t r = 0; r < rows; ++r) out.convert_row(r, x.data() + r * columns);
  return out;
}

struct Product {
  DType type;
  std::int64_t n, columns, rows;
  bool bias;
};

/// Packs `weights` (n rows) for the ISA and multiplies.
Floats multiply(const Kernels& k, const Product& p, const std::vector<std::byte>& weights, const Floats& x,
                const Floats& bias) {
  const std::int64_t panels = (p.n + k.panel - 1) / k.panel, size = panel_bytes(k, p.type, p.columns);
  const std::uint64_t stride = row_bytes(p.type, static_cast<std::uint64_t>(p.columns));
  std::vector<std::uint8_t> packed(static_cast<std::size_t>(panels * size));
  for (std::int64_t i = 0; i < panels; ++i)
    pack_panel(k, p.type, p.columns, weights.data() + static_cast<std::uint64_t>(i * k.panel) * stride,
               static_cast<int>(std::min<std::int64_t>(k.panel, p.n - i * k.panel)), packed.data() + i * size);
  const Activations activations = converted(k, p.type, x, p.columns);
  Floats out = guarded(static_cast<std::size_t>(p.rows * p.n));
  LinearArgs a{};
  a.panels = packed.data(), a.panel_bytes = size, a.first_panel = 0, a.last_panel = panels;
  a.n = p.n;
  activations.fill(a, x.data(), 0, p.rows);
  a.bias = p.bias ? bias.data() : nullptr;
  a.out = out.data(), a.out_stride = p.n;
  k.linear[static_cast<int>(p.type)](a);
  expect_guards(out, static_cast<std::size_t>(p.rows * p.n), "linear");
  out.resize(static_cast<std::size_t>(p.rows * p.n));
  return out;
}

std::size_t columns_per_scale(const Kernels& k, DType type) {
  return info(type).block == 256 ? static_cast<std::size_t>(k.scale_columns) : 32;
}

/// The activations as the kernel sees them: rounded to steps of max / 127 per block of values, from the definition.
std::vector<double> rounded(const Floats& x, std::size_t block) {
  std::vector<double> y(x.size());
  for (std::size_t b = 0; b < x.size(); b += block) {
    float top = 0;
    for (std::size_t i = b; i < b + block; ++i) top = std::max(top, std::fabs(x[i]));
    for (std::size_t i = b; i < b + block; ++i)
      y[i] = top > 0 ? std::nearbyint(x[i] * (127 / top)) * static_cast<double>(top / 127) : 0;
  }
  return y;
}

void check_product(const Kernels& k, const Product& p) {
  const std::uint64_t seed = static_cast<std::uint64_t>(p.n * 1000 + p.columns * 10 + p.rows);
  const Floats w = random_floats(static_cast<std::size_t>(p.n * p.columns), seed),
               x = random_floats(static_cast<std::size_t>(p.rows * p.columns), seed + 1, 3);
  const Floats bias = random_floats(static_cast<std::size_t>(p.n), seed + 2);
  const std::uint64_t stride = row_bytes(p.type, static_cast<std::uint64_t>(p.columns));
  std::vector<std::byte> packed(stride * static_cast<std::uint64_t>(p.n));
  Floats real(w.size());
  const quant::RowOps& ops = quant::row_ops(p.type);
  for (std::int64_t n = 0; n < p.n; ++n) {
    const auto row = static_cast<std::uint64_t>(n);
    ops.quantize(w.data() + n * p.columns, static_cast<std::uint64_t>(p.columns), packed.data() + row * stride);
    ops.dequantize(packed.data() + row * stride, static_cast<std::uint64_t>(p.columns), real.data() + n * p.columns);
  }
  const Floats out = multiply(k, p, packed, x, bias);
  const std::vector<double> seen =
      info(p.type).block > 1 ? rounded(x, columns_per_scale(k, p.type)) : std::vector<double>(x.begin(), x.end());
  for (std::int64_t r = 0; r < p.rows; ++r)
    for (std::int64_t n = 0; n < p.n; ++n) {
      double sum = p.bias ? bias[static_cast<std::size_t>(n)] : 0, size = 0;
      for (std::int64_t c = 0; c < p.columns; ++c) {
        const double term =
            real[static_cast<std::size_t>(n * p.columns + c)] * seen[static_cast<std::size_t>(r * p.columns + c)];
        sum += term, size += std::fabs(term);
      }
      // float rounding of a sum of `columns` terms, relative to the sum of their sizes
      const double got = out[static_cast<std::size_t>(r * p.n + n)];
      ASSERT_TRUE(std::isfinite(got));
      ASSERT_LE(std::fabs(got - sum), 1e-5 * (size + 1)) << info(p.type).name << " n " << p.n << " columns "
                                                         << p.columns << " rows " << p.rows << " at " << r << "," << n;
    }
}

TEST_P(Isa, products_equal_a_double_loop_for_every_format_and_odd_shapes) {
  for (const DTypeInfo& type : kDTypes) {
    if (!is_weight_type(type.type)) continue;
    ASSERT_TRUE(can_pack(type.type)) << type.name;
    const std::vector<std::int64_t> columns = type.block == 1    ? std::vector<std::int64_t>{1, 3, 31, 100, 257}
                                              : type.block == 32 ? std::vector<std::int64_t>{32, 96, 320}
                                                                 : std::vector<std::int64_t>{256, 768};
    for (const std::int64_t c : columns)
      for (const auto& [n, rows] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 3}, {17, 8}, {33, 13}, {40, 35}})
        check_product(k(), {type.type, n, c, rows, rows % 2 == 1});
  }
}

/// `rows` rows together, and some of them alone, bias and all.
void check_alone(const Kernels& k, DType type, std::int64_t n, std::int64_t columns, std::int64_t rows) {
  const Floats w = random_floats(static_cast<std::size_t>(n * columns), 3),
               x = random_floats(static_cast<std::size_t>(rows * columns), 4),
               bias = random_floats(static_cast<std::size_t>(n), 5);
  const std::uint64_t stride = row_bytes(type, static_cast<std::uint64_t>(columns));
  std::vector<std::byte> packed(stride * static_cast<std::uint64_t>(n));
  for (std::int64_t i = 0; i < n; ++i)
    quant::row_ops(type).quantize(w.data() + i * columns, static_cast<std::uint64_t>(columns),
                                  packed.data() + static_cast<std::uint64_t>(i) * stride);
  const Floats together = multiply(k, {type, n, columns, rows, true}, packed, x, bias);
  for (std::int64_t r = 0; r < rows; r += 1 + rows / 11) {
    const Floats one(x.begin() + r * columns, x.begin() + (r + 1) * columns);
    const Floats alone = multiply(k, {type, n, columns, 1, true}, packed, one, bias);
    for (std::int64_t i = 0; i < n; ++i)
      ASSERT_EQ(std::bit_cast<std::uint32_t>(alone[static_cast<std::size_t>(i)]),
                std::bit_cast<std::uint32_t>(together[static_cast<std::size_t>(r * n + i)]))
          << info(type).name << " row " << r << " of " << rows << ", " << columns << " columns";
  }
}

TEST_P(Isa, a_row_has_the_same_bits_alone_and_among_others) {
  for (const DTypeInfo& type : kDTypes) {
    if (!is_weight_type(type.type)) continue;
    // 530 rows: whole groups of tiles, pairs of them and what is left; 150 outputs: more than one group of panels.
    // Elsewhere four panels at most go together.
    const bool tiles = k().tiles_from < 530;
    for (const std::int64_t rows : {15, 70, tiles ? 530 : 83})
      check_alone(k(), type.type, tiles ? 150 : 4 * k().panel + 6, 512, rows);
    check_alone(k(), type.type, 19, 8448, 33);  // more columns than any ISA unpacks at a time
  }
}

TEST_P(Isa, extreme_codes_do_not_overflow) {
  // Largest weights against largest activations of one sign: every int8 product at its limit.
  for (const DTypeInfo& type : kDTypes) {
    if (!is_weight_type(type.type) || type.block == 1) continue;
    for (const float sign : {1.0f, -1.0f}) {
      const std::int64_t columns = 256;
      Floats w(static_cast<std::size_t>(columns)), x(static_cast<std::size_t>(columns), sign);
      for (std::size_t i = 0; i < w.size(); ++i) w[i] = i % 16 == 0 ? -1.0f : 1.0f;
      std::vector<std::byte> packed(row_bytes(type.type, 256));
      quant::row_ops(type.type).quantize(w.data(), 256, packed.data());
      const double want = quant::row_ops(type.type).dot(packed.data(), x.data(), 256);
      const Floats out = multiply(k(), {type.type, 1, columns, 1, false}, packed, x, {});
      EXPECT_NEAR(out[0], want, 1e-3 * (std::fabs(want) + 1)) << type.name;
    }
  }
}

TEST_P(Isa, norms_equal_double_loops) {
  for (const std::int64_t n : {1, 7, 16, 33, 896}) {
    const auto size = static_cast<std::size_t>(n);
    const Floats x = random_floats(size, 5, 4), weight = random_floats(size, 6), bias = random_floats(size, 7);
    Floats rms = guarded(size), layer = guarded(size);
    k().rms_norm(x.data(), weight.data(), n, 1e-5f, rms.data());
    k().layer_norm(x.data(), weight.data(), bias.data(), n, 1e-5f, layer.data());
    double squares = 0, mean = 0, variance = 0;
    for (const float v : x) squares += static_cast<double>(v) * v, mean += v;
    mean /= static_cast<double>(n);
    for (const float v : x) variance += (v - mean) * (v - mean);
    for (std::size_t i = 0; i < size; ++i) {
      ASSERT_NEAR(rms[i], x[i] / std::sqrt(squares / static_cast<double>(n) + 1e-5) * weight[i], 1e-5);
      ASSERT_NEAR(layer[i], (x[i] - mean) / std::sqrt(variance / static_cast<double>(n) + 1e-5) * weight[i] + bias[i],
                  2e-5);
    }
    expect_guards(rms, size, "rms_norm");
    expect_guards(layer, size, "layer_norm");
  }
}

/// In parts of outputs and columns, of some rows; the others stay as they are.
TEST_P(Isa, low_rank_additions_equal_double_loops) {
  for (const auto& [inputs, outputs, rank] : {std::array{1, 1, 1}, {7, 33, 3}, {40, 16, 17}, {333, 100, 8}}) {
    const std::vector<std::int64_t> rows{1, 2, 3, 5, 6, 8, 9};
    const auto u = [](auto v) { return static_cast<std::size_t>(v); };
    const Floats a = random_floats(u(rank * inputs), 41), b = random_floats(u(rank * outputs), 42);
    const Floats x = random_floats(u(10 * inputs), 43), before = random_floats(u(10 * outputs), 44);
    Floats inner = guarded(rows.size() * u(rank)), out = before;
    out.resize(out.size() + 16, kGuard);
    const std::int64_t some = rank / 2, columns = outputs / 3;
    for (const auto& [first, last] : {std::pair<std::int64_t, std::int64_t>{0, some}, {some, rank}})
      k().low_rank_reduce({a.data(), rank, inputs, first, last, rows.data(), 7, x.data(), inner.data(), nullptr, 0});
    for (const auto& [first, last] : {std::pair<std::int64_t, std::int64_t>{0, columns}, {columns, outputs}})
      k().low_rank_expand({b.data(), rank, outputs, first, last, rows.data(), 7, nullptr, inner.data(), out.data(), 2});
    for (std::int64_t r = 0; r < 10; ++r)
      for (int o = 0; o < outputs; ++o) {
        double want = before[u(r * outputs + o)];
        for (int j = 0; j < rank && std::ranges::find(rows, r) != rows.end(); ++j) {
          double sum = 0;
          for (int i = 0; i < inputs; ++i) sum += double{a[u(j * inputs + i)]} * double{x[u(r * inputs + i)]};
          want += 2 * sum * double{b[u(j * outputs + o)]};
        }
        ASSERT_NEAR(out[u(r * outputs + o)], want, 2e-6 * inputs) << inputs << " " << outputs << " row " << r;
      }
    expect_guards(inner, rows.size() * u(rank), "low_rank_reduce");
    expect_guards(out, before.size(), "low_rank_expand");
  }
}

TEST_P(Isa, activations_equal_their_formulas_over_the_whole_range) {
  Floats gate, up;
  for (float v = -100; v <= 100; v += std::fabs(v) < 6 ? 0.037f : 0.37f) gate.push_back(v), up.push_back(v * 0.1f + 1);
  const std::size_t n = gate.size();
  Floats silu = guarded(n), gelu = guarded(n), clamped = guarded(n), erf = guarded(n), erf_mul = guarded(n);
  k().silu_mul(gate.data(), up.data(), static_cast<std::int64_t>(n), silu.data());
  k().gelu(gate.data(), static_cast<std::int64_t>(n), gelu.data());
  k().swiglu_clamped(gate.data(), up.data(), static_cast<std::int64_t>(n), 7, 1.702f, clamped.data());
  k().gelu_erf(gate.data(), static_cast<std::int64_t>(n), erf.data());
  k().gelu_erf_mul(gate.data(), up.data(), static_cast<std::int64_t>(n), erf_mul.data());
  for (std::size_t i = 0; i < n; ++i) {
    const double g = gate[i], u = up[i];
    ASSERT_NEAR(silu[i], g / (1 + std::exp(-g)) * u, 2e-6 * (1 + std::fabs(g * u)));
    ASSERT_NEAR(gelu[i], 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))),
                2e-6 * (1 + std::fabs(g)));
    const double of_erf = 0.5 * g * std::erfc(-g * M_SQRT1_2);
    ASSERT_NEAR(erf[i], of_erf, 1e-6 * std::fabs(of_erf) + 1e-7);
    ASSERT_NEAR(erf_mul[i], of_erf * u, 1e-6 * std::fabs(of_erf * u) + 1e-7 * std::fabs(u));
    const double c = std::min(g, 7.0), v = std::clamp(u, -7.0, 7.0);
    ASSERT_NEAR(clamped[i], c / (1 + std::exp(-1.702 * c)) * (v + 1), 2e-6 * (1 + std::fabs(c * (v + 1))));
  }
  expect_guards(silu, n, "silu_mul");
  expect_guards(gelu, n, "gelu");
  expect_guards(clamped, n, "swiglu_clamped");
  expect_guards(erf, n, "gelu_erf");
  expect_guards(erf_mul, n, "gelu_erf_mul");
}

TEST_P(Isa, sums_and_rotations) {
  const Floats x = random_floats(37, 8);
  Floats out = guarded(37);
  std::fill(out.begin(), out.begin() + 37, 1.0f);
  k().add(x.data(), 37, out.data());
  k().add_scaled(x.data(), 0.5f, 37, out.data());
  for (std::size_t i = 0; i < 37; ++i) ASSERT_NEAR(out[i], 1 + 1.5 * static_cast<double>(x[i]), 1e-6);
  expect_guards(out, 37, "add");
  for (const bool adjacent : {true, false}) {
    Floats head = random_floats(10, 9);
    const Floats before = head, cos{0.1f, 0.2f, 0.3f, 0.4f}, sin{0.5f, 0.6f, 0.7f, 0.8f};
    k().rope(head.data(), cos.data(), sin.data(), 8, adjacent);
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t a = adjacent ? 2 * i : i, b = adjacent ? 2 * i + 1 : i + 4;
      ASSERT_NEAR(head[a], before[a] * cos[i] - before[b] * sin[i], 1e-6);
      ASSERT_NEAR(head[b], before[a] * sin[i] + before[b] * cos[i], 1e-6);
    }
    ASSERT_EQ(head[8], before[8]);
    ASSERT_EQ(head[9], before[9]);
  }
}

struct AttentionCase {
  KvType type;
  int head_dim;
  std::int64_t position, window;
  float softcap;
  bool sink;
};

void check_attention(const Kernels& k, const AttentionCase& c) {
  const KvLayout layout = kv_layout(c.type, c.head_dim);
  const auto dim = static_cast<std::size_t>(c.head_dim), length = static_cast<std::size_t>(c.position) + 1;
  Floats keys = random_floats(length * dim, 11), values = random_floats(length * dim, 12);
  const Floats query = random_floats(dim, 13, 2);
  if (c.type == KvType::kF16)  // which holds these as they are
    for (Floats* x : {&keys, &values})
      for (float& v : *x) v = std::rint(v * 1024) / 1024;
  std::vector<std::vector<std::uint8_t>> pages((length + 63) / 64,
                                               std::vector<std::uint8_t>(static_cast<std::size_t>(layout.page_bytes)));
  // What lies beyond the query must not matter: fill the rest of the last page with large values.
  const Floats junk(dim, 1000.0f);
  for (std::size_t p = 0; p < pages.size() * 64; ++p)
    k.kv_write(layout, pages[p / 64].data(), static_cast<int>(p % 64), p < length ? keys.data() + p * dim : junk.data(),
               p < length ? values.data() + p * dim : junk.data());
  std::vector<const std::uint8_t*> table;
  for (const auto& page : pages) table.push_back(page.data());
  Floats out = guarded(dim);
  const float scale = 0.3f, sink = 0.7f;
  const AttendQuery one{query.data(), out.data(), c.position, sink};
  k.attend({&one, 1, table.data(), layout, c.window, scale, c.softcap, c.sink});
  const std::size_t oldest =
      c.window > 0 && c.position + 1 > c.window ? static_cast<std::size_t>(c.position + 1 - c.window) : 0;
  std::vector<double> sum(dim);
  double mass = c.sink ? std::exp(sink) : 0;
  for (std::size_t p = oldest; p < length; ++p) {
    double score = 0;
    for (std::size_t d = 0; d < dim; ++d) score += static_cast<double>(query[d]) * keys[p * dim + d];
    score *= scale;
    if (c.softcap > 0) score = c.softcap * std::tanh(score / c.softcap);
    mass += std::exp(score);
    for (std::size_t d = 0; d < dim; ++d) sum[d] += std::exp(score) * values[p * dim + d];
  }
  // Values lie in [-1, 1]. Tiles keep 16 bits of queries and weights; q8_0 rounds to 1/127 of the largest of 32, of
  // keys (through the scores) and of values.
  const double tolerance = c.type == KvType::kF32 ? 1e-5 : c.type == KvType::kF16 ? 5e-5 : 3e-2;
  for (std::size_t d = 0; d < dim; ++d)
    ASSERT_NEAR(out[d], sum[d] / mass, tolerance)
        << "head_dim " << c.head_dim << " position " << c.position << " window " << c.window;
  expect_guards(out, dim, "attend");
}

TEST_P(Isa, attention_equals_a_double_loop) {
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kQ8_0})
    for (const int head_dim : {8, 40, 64, 96, 128, 256, 300})
      for (const std::int64_t position : {0, 1, 63, 64, 150})
        for (const std::int64_t window : {0, 5, 100}) {
          check_attention(k(), {type, head_dim, position, window, 0, false});
          check_attention(k(), {type, head_dim, position, window, 0, true});
        }
  for (const KvType type : {KvType::kF32, KvType::kF16})
    for (const bool sink : {false, true}) check_attention(k(), {type, 64, 100, 0, 2.0f, sink});
}

TEST_P(Isa, queries_have_the_same_bits_alone_and_together) {
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kQ8_0})
    for (const std::int64_t window : {0, 70})
      for (const int head_dim : {64, 80, 300}) {
        const KvLayout layout = kv_layout(type, head_dim);
        const auto dim = static_cast<std::size_t>(head_dim), count = static_cast<std::size_t>(attend_queries(layout));
        constexpr std::size_t kLength = 200;
        Floats keys = random_floats(kLength * dim, 31), values = random_floats(kLength * dim, 32);
        const Floats queries = random_floats(count * dim, 33, 2);
        for (std::size_t d = 0; d < dim; d += 3) values[123 * dim + d] = 1e9f;  // more than an F16 holds
        std::vector<std::vector<std::uint8_t>> pages(
            4, std::vector<std::uint8_t>(static_cast<std::size_t>(layout.page_bytes)));
        for (std::size_t p = 0; p < kLength; ++p)
          k().kv_write(layout, pages[p / 64].data(), static_cast<int>(p % 64), keys.data() + p * dim,
                       values.data() + p * dim);
        const std::uint8_t* table[] = {pages[0].data(), pages[1].data(), pages[2].data(), pages[3].data()};
        Floats together(count * dim), alone(count * dim);
        std::vector<AttendQuery> list;
        for (std::size_t q = 0; q < count; ++q)  // around a page's end; each position twice, as heads of a group
          list.push_back(
              {queries.data() + q * dim, together.data() + q * dim, 115 + static_cast<std::int64_t>(q / 2), 0.4f});
        k().attend({list.data(), static_cast<int>(count), table, layout, window, 0.2f, 0, true});
        for (std::size_t q = 0; q < count; ++q) {
          list[q].out = alone.data() + q * dim;
          k().attend({&list[q], 1, table, layout, window, 0.2f, 0, true});
        }
        ASSERT_EQ(together, alone) << head_dim << ' ' << static_cast<int>(type);  // NaN equals nothing
      }
}

TEST_P(Isa, activation_quantization_is_the_definition) {
  for (const DType type : {DType::kQ8_0, DType::kQ4_K}) {
    const std::size_t block = columns_per_scale(k(), type), columns = 3 * info(type).block;
    const Floats x = random_floats(columns, 15, 5);
    const Activations q = converted(k(), type, x, static_cast<std::int64_t>(x.size()));
    const std::vector<double> want = rounded(x, block);
    for (std::size_t i = 0; i < x.size(); ++i)
      ASSERT_NEAR(q.codes()[i] * static_cast<double>(q.scales()[i / block]), want[i], 1e-6);
    for (std::size_t g = 0; g < q.sums().size(); ++g) {
      int sum = 0;
      for (std::size_t i = 0; i < 16; ++i) sum += q.codes()[g * 16 + i];
      ASSERT_EQ(q.sums()[g], sum);
    }
    const Activations zero = converted(k(), type, Floats(columns, 0.0f), static_cast<std::int64_t>(columns));
    EXPECT_EQ(zero.scales()[0], 0);
    EXPECT_EQ(zero.codes()[5], 0);
  }
}

TEST_P(Isa, long_rows_are_summed_in_parts_without_a_seam) {
  for (const DType type : {DType::kQ8_0, DType::kQ4_K, DType::kQ2_K, DType::kQ6_K, DType::kF16, DType::kBF16})
    for (const std::int64_t rows : {37, 75}) check_product(k(), {type, 21, 4352, rows, true});
}

// But for minimums, which are summed apart, and blocks of 256, whose activations have other scales there.
TEST(Tiles, block_formats_have_the_bits_of_the_vector_kernels) {
  const Kernels *tiles = find_kernels("amx"), *vectors = find_kernels("avx512");
  if (!tiles) GTEST_SKIP() << "this machine has no tile unit (AMX), or it may not be used";
  for (const DTypeInfo& type : kDTypes) {
    if (!is_weight_type(type.type) || type.block != 32 || type.type == DType::kQ4_1 || type.type == DType::kQ5_1)
      continue;
    constexpr std::int64_t kN = 150, kColumns = 2304, kRows = 75;
    const Floats w = random_floats(kN * kColumns, 21), x = random_floats(kRows * kColumns, 22);
    std::vector<std::byte> packed(row_bytes(type.type, kColumns) * kN);
    for (std::uint64_t n = 0; n < kN; ++n)
      quant::row_ops(type.type).quantize(w.data() + n * kColumns, kColumns,
                                         packed.data() + n * row_bytes(type.type, kColumns));
    const Product product{type.type, kN, kColumns, kRows, false};
    ASSERT_EQ(multiply(*tiles, product, packed, x, {}), multiply(*vectors, product, packed, x, {})) << type.name;
  }
}

INSTANTIATE_TEST_SUITE_P(all, Isa, testing::ValuesIn(isas()), [](const auto& p) { return std::string(p.param->name); });

TEST(Dispatch, scalar_is_always_there_and_unknown_names_are_not) {
  EXPECT_NE(find_kernels("scalar"), nullptr);
  EXPECT_EQ(find_kernels("mmx"), nullptr);
  EXPECT_EQ(&best_kernels(), isas().front());
}

TEST(PackedBytes, are_those_of_the_panels) {
  for (const DTypeInfo& type : kDTypes)
    for (const char* name : {"avx2", "avx512", "scalar"}) {
      const Kernels* k = find_kernels(name);
      if (!k || type.bytes <= 4) continue;  // plain types may be filled up
      const std::int64_t columns = 2048, row = columns / type.block * type.bytes;
      EXPECT_EQ(packed_bytes(type.type, row) * k->panel, panel_bytes(*k, type.type, columns))
          << type.name << " " << name;
    }
}

}  // namespace
}  // namespace llorch::kernel
