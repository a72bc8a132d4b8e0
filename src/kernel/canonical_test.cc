// Canonical arithmetic: every ISA without tiles gives the same bits, at any number of lanes, on any machine. What one
// ISA computes is compared with the others of this machine, and a hash of it with the one below, so that kernels for
// other processors (NEON under qemu) are compared with those of this one.
//
// A hash that changes says that results of the engine change: replace it when that is meant (the test prints it).
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "kernel/activations.h"
#include "kernel/kernels.h"
#include "kernel/pack.h"
#include "quant/table.h"

namespace llorch::kernel {

#define LLORCH_ISA(name) const Kernels& kernels_##name();
#include "test_isa_table.inc"
#undef LLORCH_ISA

namespace {

struct Expected {
  const char* name;
  std::uint64_t hash;
};
constexpr Expected kExpected[] = {
    {"linear F32", 0x90d4951094eb07d3},  // products, of each format
    {"linear F16", 0x8e26af5a6b7cd3c1},      {"linear BF16", 0xa40ddbccd8d7dcc7},
    {"linear Q4_0", 0xa4b8ecbe49b6a986},     {"linear Q4_1", 0x5c1e59c90b6092cc},
    {"linear Q5_0", 0xf9868be1fc6aec34},     {"linear Q5_1", 0x1d2598c556a1faee},
    {"linear Q8_0", 0x97250f0bd8e1022f},     {"linear Q2_K", 0x43833b037cc84b63},
    {"linear Q3_K", 0xbe1843fe37f8c45e},     {"linear Q4_K", 0xa08e09247c6da36c},
    {"linear Q5_K", 0x1e6d5e7b843fa03},      {"linear Q6_K", 0xfc06236a47016edc},
    {"linear IQ4_NL", 0x425bfbddc1aed18b},   {"linear MXFP4", 0x12c62efc34a7ee8e},
    {"linear IQ4_XS", 0x746baf71e20c035a},   {"linear IQ3_S", 0xcf144cf1a6e5a3c6},
    {"linear IQ3_XXS", 0xaed9f0b908c0b1b9},  {"linear TQ2_0", 0x9f22d042d2c39084},
    {"linear NVFP4", 0x4793ae5346428131},    {"halves", 0xbee0f49fff1d2325},
    {"quantize_row 32", 0x5c50175bf0dc872b}, {"quantize_row 256", 0x66517e7720d3ceeb},
    {"norms", 0x1a79744073108510},           {"activations", 0x2330c440fd7d86e0},
    {"gates", 0x2dedae42dc1b747b},           {"rope", 0x1db3ddb530d5f980},
    {"kv_write 0", 0x77b41073c0e49896},      {"kv_write 1", 0xf788d00a44e33676},
    {"kv_write 2", 0x200600d10c71813b},      {"attend 0", 0xc939820ae12c8b98},
    {"attend 1", 0x396dd67ee906fb25},        {"attend 2", 0xe6eb68624bb2171a},
    {"convolve", 0x89d825fb2fb012b3},        {"low rank", 0x8fa2926d06656a40},
    {"rates", 0x393766bbea7b2e56},           {"recur", 0x585c68623d9888c},
};

using Floats = std::vector<float>;
using Words = std::vector<std::uint32_t>;

std::vector<const Kernels*> canonical_isas() {
  int count = 0;
  const Kernels* const* all = all_kernels(count);
  std::vector<const Kernels*> out;
  for (int i = 0; i < count; ++i)
    if (all[i]->canonical) out.push_back(all[i]);
#define LLORCH_ISA(name) out.push_back(&kernels_##name());
#include "test_isa_table.inc"
#undef LLORCH_ISA
  return out;
}

/// Heavy-tailed, with a few values far above the others.
Floats activations(std::size_t n, std::uint64_t seed) {
  Floats x(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto u = static_cast<float>(uniform(seed, 1, i) * 2 - 1);
    x[i] = u * u * u * (uniform(seed, 2, i) < 0.01 ? 40.0f : 1.0f);
  }
  return x;
}

/// Numbers of all sizes, and those that are none.
Floats special_values() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNone = std::numeric_limits<float>::quiet_NaN();
  Floats x{0.0f, -0.0f, kInfinity, -kInfinity, kNone, 65504, 65519, 65520, -65536, 3e38f, -3e38f, 1e-45f, -1e-45f};
  for (int exponent = -30; exponent < 18; ++exponent)
    for (const float m : {1.0f, 1.00048828f, 1.0014648f, 1.00048816f, -1.5f, -1.9995117f, 1.9997559f})
      x.push_back(std::ldexp(m, exponent));
  for (float v = -100; v <= 100; v += 0.37f) x.push_back(v);
  return x;
}

/// Any NaN is as good as any other.
void append(Words& to, const Floats& from) {
  for (const float x : from) to.push_back(std::isnan(x) ? 0x7fc00000u : std::bit_cast<std::uint32_t>(x));
}
template<class T>
void append_bytes(Words& to, const std::vector<T>& from) {
  static_assert(sizeof(T) <= 2);
  for (const T x : from) to.push_back(static_cast<std::uint32_t>(x));
}

std::uint64_t hash_of(const Words& words) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const std::uint32_t w : words) hash = (hash ^ w) * 0x100000001b3ull;
  return hash;
}

using Compute = std::function<Words(const Kernels&)>;
void expect_same_everywhere(const std::string& name, const Compute& compute) {
  const std::vector<const Kernels*> isas = canonical_isas();
  const Words want = compute(*isas[0]);
  for (const Kernels* k : isas) {
    const Words got = compute(*k);
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(got[i], want[i]) << name << ": " << k->name << " and " << isas[0]->name << " differ first at " << i
                                 << " of " << got.size() << ": " << std::bit_cast<float>(got[i]) << " and "
                                 << std::bit_cast<float>(want[i]);
  }
  const std::uint64_t hash = hash_of(want);
  for (const Expected& e : kExpected)
    if (name == e.name) {
      EXPECT_EQ(hash, e.hash) << name << " is no longer what it was: " << std::hex << "{\"" << name << "\", 0x" << hash
                              << "},";
      return;
    }
  ADD_FAILURE() << "no hash is known: " << std::hex << "{\"" << name << "\", 0x" << hash << "},";
}

/// A weight matrix as it lies in a file, n rows.
std::vector<std::byte> make_weights(DType type, std::int64_t n, std::int64_t columns) {
  Floats w(static_cast<std::size_t>(n * columns));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(uniform(9, 3, i) * 2 - 1);
  const std::uint64_t stride = row_bytes(type, static_cast<std::uint64_t>(columns));
  std::vector<std::byte> out(stride * static_cast<std::uint64_t>(n));
  for (std::int64_t i = 0; i < n; ++i)
    quant::row_ops(type).quantize(w.data() + i * columns, static_cast<std::uint64_t>(columns),
                                  out.data() + static_cast<std::uint64_t>(i) * stride);
  return out;
}

struct Matrix {
  DType type;
  std::int64_t n, columns;
};

Floats multiply(const Kernels& k, const Matrix& m, const std::vector<std::byte>& weights, const Floats& x,
                std::int64_t rows, const float* bias) {
  const std::int64_t panels = (m.n + k.panel - 1) / k.panel, size = panel_bytes(k, m.type, m.columns);
  const std::uint64_t stride = row_bytes(m.type, static_cast<std::uint64_t>(m.columns));
  std::vector<std::uint8_t> packed(static_cast<std::size_t>(panels * size));
  for (std::int64_t i = 0; i < panels; ++i)
    pack_panel(k, m.type, m.columns, weights.data() + static_cast<std::uint64_t>(i * k.panel) * stride,
               static_cast<int>(std::min<std::int64_t>(k.panel, m.n - i * k.panel)), packed.data() + i * size);
  Activations converted;
  converted.resize(k, m.type, rows, m.columns);
  for (std::int64_t r = 0; r < rows; ++r) converted.convert_row(r, x.data() + r * m.columns);
  Floats out(static_cast<std::size_t>(rows * m.n));
  LinearArgs a{};
  a.panels = packed.data(), a.panel_bytes = size, a.last_panel = panels, a.n = m.n;
  converted.fill(a, x.data(), 0, rows);
  a.bias = bias, a.out = out.data(), a.out_stride = m.n;
  k.linear[static_cast<int>(m.type)](a);
  return out;
}

TEST(Canonical, products_of_every_format) {
  for (const DTypeInfo& type : kDTypes) {
    if (!is_weight_type(type.type)) continue;
    const std::vector<std::int64_t> columns = type.block == 1    ? std::vector<std::int64_t>{1, 31, 257}
                                              : type.block == 32 ? std::vector<std::int64_t>{32, 352}
                                                                 : std::vector<std::int64_t>{256, 768};
    expect_same_everywhere("linear " + std::string(type.name), [&](const Kernels& k) {
      Words out;
      for (const std::int64_t c : columns)
        for (const std::int64_t n : {1, 17, 32}) {
          const auto weights = make_weights(type.type, n, c);
          const Floats bias = activations(static_cast<std::size_t>(n), 6);
          for (const std::int64_t rows : {1, 2, 7, 16, 17, 64, 65, 100})
            append(out, multiply(k, {type.type, n, c}, weights, activations(static_cast<std::size_t>(rows * c), 5),
                                 rows, rows % 2 ? bias.data() : nullptr));
        }
      const Matrix longer{type.type, 19, 8448};  // more columns than any ISA unpacks at a time
      const auto weights = make_weights(longer.type, longer.n, longer.columns);
      for (const std::int64_t rows : {2, 33})
        append(out, multiply(k, longer, weights, activations(static_cast<std::size_t>(rows * 8448), 7), rows, nullptr));
      return out;
    });
  }
}

TEST(Canonical, halves_are_read_alike) {
  std::vector<std::byte> weights(65536 * 2);
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto half = static_cast<std::uint16_t>(i);
    std::memcpy(weights.data() + 2 * i, &half, 2);
  }
  expect_same_everywhere("halves", [&](const Kernels& k) {
    Words out;
    append(out, multiply(k, {DType::kF16, 65536, 1}, weights, {1.0f}, 1, nullptr));
    return out;
  });
}

TEST(Canonical, quantized_rows) {
  Floats x = activations(256 * 6, 15);
  for (std::size_t i = 0; i < 256; ++i) x[256 + i] *= 1e-37f;  // whose inverse would overflow
  for (std::size_t i = 0; i < 256; ++i)                        // halves of steps
    x[512 + i] = i % 32 == 0 ? 127 : std::clamp(std::round(x[512 + i] * 50), -126.0f, 126.0f) + 0.5f;
  for (std::size_t i = 0; i < 256; ++i) x[768 + i] = i % 2 ? -0.0f : 0.0f;
  x[1024 + 70] = std::numeric_limits<float>::quiet_NaN(), x[1024 + 200] = -std::numeric_limits<float>::infinity();
  for (const int block : {32, 256})
    expect_same_everywhere("quantize_row " + std::to_string(block), [&](const Kernels& k) {
      std::vector<std::int8_t> codes(x.size());
      Floats scales(x.size() / 32), minimum_scales(x.size() / 256);
      std::vector<std::int16_t> sums(x.size() / 16), minimum_sums(x.size() / 256 * kMinimumSums);
      k.quantize_row(
          x.data(), static_cast<std::int64_t>(x.size()), block,
          {codes.data(), scales.data(), sums.data(), minimum_sums.data(), minimum_scales.data(), nullptr, 1});
      Words out;
      append_bytes(out, codes), append_bytes(out, sums), append_bytes(out, minimum_sums);
      append(out, scales), append(out, minimum_scales);
      return out;
    });
}

TEST(Canonical, norms) {
  expect_same_everywhere("norms", [&](const Kernels& k) {
    Words out;
    for (const std::int64_t n : {1, 7, 16, 31, 33, 896, 4099}) {
      const auto size = static_cast<std::size_t>(n);
      for (const bool huge : {false, true}) {
        Floats x = activations(size, 21), y(size);
        if (huge) x[size / 2] = 1e20f;  // whose square is none
        const Floats weight = activations(size, 22), bias = activations(size, 23);
        out.push_back(k.rms_norm(x.data(), weight.data(), n, 1e-5f, y.data()));
        append(out, y);
        out.push_back(k.layer_norm(x.data(), weight.data(), bias.data(), n, 1e-5f, y.data()));
        append(out, y);
      }
    }
    return out;
  });
}

TEST(Canonical, activation_functions) {
  expect_same_everywhere("activations", [&](const Kernels& k) {
    Words out;
    const Floats x = special_values();
    Floats up(x.rbegin(), x.rend());
    const auto n = static_cast<std::int64_t>(x.size());
    for (const std::int64_t count : {n, std::int64_t{5}, std::int64_t{19}}) {
      Floats y(x.size());
      out.push_back(k.silu_mul(x.data(), up.data(), count, y.data())), append(out, y);
      out.push_back(k.gelu(x.data(), count, y.data())), append(out, y);
      out.push_back(k.swiglu_clamped(x.data(), up.data(), count, 7, 1.702f, y.data())), append(out, y);
      k.add(x.data(), count, y.data()), append(out, y);
      k.add_scaled(x.data(), 0.3f, count, y.data()), append(out, y);
      out.push_back(k.within(x.data(), count, 1e30f));
    }
    return out;
  });
}

TEST(Canonical, gates_and_caps) {
  expect_same_everywhere("gates", [&](const Kernels& k) {
    Words out;
    const Floats x = special_values();
    const Floats up(x.rbegin(), x.rend());
    for (const std::int64_t count : {static_cast<std::int64_t>(x.size()), std::int64_t{5}, std::int64_t{19}}) {
      Floats y(x.size());
      out.push_back(k.gelu_mul(x.data(), up.data(), count, y.data())), append(out, y);
      out.push_back(k.gelu_erf(x.data(), count, y.data())), append(out, y);
      out.push_back(k.gelu_erf_mul(x.data(), up.data(), count, y.data())), append(out, y);
      for (const bool one : {true, false}) {
        y = up;
        k.sigmoid_mul(x.data(), one, count, y.data()), append(out, y);
      }
      y = x;
      k.soft_cap(30, count, y.data()), append(out, y);
    }
    return out;
  });
}

TEST(Canonical, rotations) {
  expect_same_everywhere("rope", [&](const Kernels& k) {
    Words out;
    for (const bool adjacent : {true, false})
      for (const int rotated : {2, 8, 64, 126}) {
        Floats head = activations(128, 31);
        const Floats cos = activations(64, 32), sin = activations(64, 33);
        k.rope(head.data(), cos.data(), sin.data(), rotated, adjacent);
        append(out, head);
      }
    return out;
  });
}

constexpr KvType kKvTypes[] = {KvType::kF32, KvType::kF16, KvType::kQ8_0};

TEST(Canonical, cached_keys_and_values) {
  for (const KvType type : kKvTypes)
    expect_same_everywhere("kv_write " + std::to_string(static_cast<int>(type)), [&](const Kernels& k) {
      Words out;
      for (const int head_dim : {8, 40, 128, 300}) {
        const KvLayout layout = kv_layout(type, head_dim);
        std::vector<std::uint8_t> page(static_cast<std::size_t>(layout.page_bytes));
        Floats x = special_values();
        const auto dim = static_cast<std::size_t>(head_dim);
        x.resize((x.size() / dim + 2) * dim);
        std::uint32_t payload = 0x7f812345;  // of a signalling NaN
        std::memcpy(x.data() + 2, &payload, 4);
        payload = 0xffc54321;
        std::memcpy(x.data() + 3, &payload, 4);
        for (int slot = 0; slot < 64; ++slot) {
          const std::size_t at = static_cast<std::size_t>(slot) % (x.size() / dim - 1) * dim;
          k.kv_write(layout, page.data(), slot, x.data() + at, x.data() + at + dim / 2);
        }
        append_bytes(out, page);
      }
      return out;
    });
}

struct AttentionCase {
  KvType type;
  int head_dim;
  std::int64_t window;
  float softcap;
  bool sink;
};

Floats attend(const Kernels& k, const AttentionCase& c) {
  constexpr std::size_t kLength = 200, kQueries = 11;
  const KvLayout layout = kv_layout(c.type, c.head_dim);
  const auto dim = static_cast<std::size_t>(c.head_dim);
  const Floats keys = activations(kLength * dim, 41), values = activations(kLength * dim, 42),
               queries = activations(kQueries * dim, 43);
  std::vector<std::vector<std::uint8_t>> pages(4,
                                               std::vector<std::uint8_t>(static_cast<std::size_t>(layout.page_bytes)));
  for (std::size_t p = 0; p < kLength; ++p)
    k.kv_write(layout, pages[p / 64].data(), static_cast<int>(p % 64), keys.data() + p * dim, values.data() + p * dim);
  const std::uint8_t* table[] = {pages[0].data(), pages[1].data(), pages[2].data(), pages[3].data()};
  Floats out(kQueries * dim);
  std::vector<AttendQuery> list;
  for (std::size_t q = 0; q < kQueries; ++q)
    list.push_back({queries.data() + q * dim, out.data() + q * dim, static_cast<std::int64_t>(q * 19), 0.4f});
  k.attend({list.data(), static_cast<int>(kQueries), table, layout, c.window, 0.6f, c.softcap, c.sink});
  return out;
}

TEST(Canonical, attention) {
  for (const KvType type : kKvTypes)
    expect_same_everywhere("attend " + std::to_string(static_cast<int>(type)), [&](const Kernels& k) {
      Words out;
      for (const int head_dim : {8, 40, 64, 128, 300})
        for (const std::int64_t window : {0, 5, 70})
          for (const float softcap : {0.0f, 3.0f})
            for (const bool sink : {false, true}) append(out, attend(k, {type, head_dim, window, softcap, sink}));
      return out;
    });
}

TEST(Canonical, convolutions) {
  expect_same_everywhere("convolve", [&](const Kernels& k) {
    Words out;
    for (const std::int64_t n : {1, 7, 16, 33, 300})
      for (const int taps : {2, 3, 4, 7}) {
        const auto size = static_cast<std::size_t>(n);
        const Floats x = activations(size * static_cast<std::size_t>(taps), 51),
                     weight = activations(size * static_cast<std::size_t>(taps), 52), bias = activations(size, 53);
        std::vector<const float*> rows;
        for (int t = 0; t < taps; ++t) rows.push_back(x.data() + t * n);
        Floats y(size);
        for (const bool silu : {false, true}) {
          k.convolve(rows.data(), weight.data(), silu ? bias.data() : nullptr, taps, silu, n, y.data());
          append(out, y);
        }
        k.multiply(x.data(), n, y.data()), append(out, y);
        k.unit_length(y.data(), n, 1e-6f, 0.3f), append(out, y);
      }
    return out;
  });
}

/// Rows and outputs that fill tiles, and those that are left over.
TEST(Canonical, low_rank_additions) {
  expect_same_everywhere("low rank", [&](const Kernels& k) {
    Words out;
    for (const std::int64_t n : {1, 7, 16, 33, 300})
      for (const std::int64_t rank : {1, 3, 8, 17}) {
        const std::vector<std::int64_t> rows{0, 1, 2, 4, 5, 7, 8};
        const Floats a = activations(static_cast<std::size_t>(rank * n), 61), x = activations(9 * std::size_t(n), 62);
        Floats inner(rows.size() * static_cast<std::size_t>(rank)), y = activations(9 * std::size_t(n), 63);
        k.low_rank_reduce({a.data(), rank, n, 0, rank, rows.data(), 7, x.data(), inner.data(), nullptr, 0});
        append(out, inner);
        k.low_rank_expand({a.data(), rank, n, 0, n, rows.data(), 7, nullptr, inner.data(), y.data(), 0.7f});
        append(out, y);
      }
    return out;
  });
}

TEST(Canonical, rates_of_recurrences) {
  expect_same_everywhere("rates", [&](const Kernels& k) {
    Words out;
    const Floats x = special_values();
    const Floats other(x.rbegin(), x.rend());
    for (const auto n : {static_cast<std::int64_t>(x.size()), std::int64_t{5}, std::int64_t{19}}) {
      Floats decay(x.size()), strength(x.size());
      const Floats bias(x.size(), 0.25f), rate(x.size(), -0.7f);
      for (const float* beta : {other.data(), static_cast<const float*>(nullptr)}) {
        k.recurrence_rates(x.data(), bias.data(), rate.data(), beta, n, decay.data(), strength.data());
        append(out, decay), append(out, strength);
      }
    }
    return out;
  });
}

/// One head over a block and its fold, computed at once and in pieces, which must agree.
Floats recur(const Kernels& k, int key_dim, int value_dim, bool corrects, const std::vector<int>& ends) {
  const auto keys_size = static_cast<std::size_t>(key_dim) * 64, values = static_cast<std::size_t>(value_dim);
  const std::int64_t stride = (value_dim + 15) / 16 * 16;
  const auto wide = static_cast<std::size_t>(stride);
  Floats keys = activations(keys_size, 61), queries = activations(keys_size, 62), value = activations(values * 64, 63);
  Floats state(static_cast<std::size_t>(key_dim) * wide), added(64 * wide), decays(64), out(values * 64);
  for (std::size_t i = 0; i < state.size(); ++i)
    if (i % wide < values) state[i] = static_cast<float>(uniform(64, 1, i) - 0.5);
  for (float& v : keys) v *= 0.1f;
  Floats log_decay(64), strength(64);
  for (std::size_t t = 0; t < 64; ++t)
    log_decay[t] = static_cast<float>(-uniform(64, 2, t)), strength[t] = static_cast<float>(uniform(64, 3, t));
  int first = 0;
  for (const int last : ends) {
    const auto from = static_cast<std::size_t>(first);
    k.recur({state.data(),
             keys.data(),
             added.data(),
             decays.data(),
             key_dim,
             value_dim,
             stride,
             first,
             last,
             queries.data() + from * static_cast<std::size_t>(key_dim),
             value.data() + from * values,
             key_dim,
             value_dim,
             log_decay.data() + first,
             strength.data() + first,
             1,
             out.data() + from * values,
             value_dim,
             corrects,
             corrects ? 0.0f : 0.5f});
    first = last;
  }
  k.fold_block(state.data(), keys.data(), added.data(), decays.data(), key_dim, stride);
  out.insert(out.end(), state.begin(), state.end());
  return out;
}

TEST(Canonical, recurrences) {
  expect_same_everywhere("recur", [&](const Kernels& k) {
    Words out;
    for (const int key_dim : {1, 12, 16, 66, 128})
      for (const int value_dim : {1, 10, 64, 80, 128})
        for (const bool corrects : {false, true}) {
          const Floats whole = recur(k, key_dim, value_dim, corrects, {64});
          EXPECT_EQ(whole, recur(k, key_dim, value_dim, corrects, {1, 2, 7, 13, 30, 64}))
              << k.name << ", " << key_dim << " x " << value_dim;
          EXPECT_TRUE(std::ranges::all_of(whole, [](float v) { return std::isfinite(v); }));
          append(out, whole);
        }
    return out;
  });
}

TEST(Canonical, a_machine_has_kernels_of_that_name) {
  const Kernels* k = find_kernels("canonical");
  ASSERT_NE(k, nullptr);
  EXPECT_TRUE(k->canonical);
  EXPECT_EQ(k, canonical_isas().front());
  EXPECT_EQ(k->split_row, nullptr);  // rows are split for tiles alone
}

}  // namespace
}  // namespace llorch::kernel
