// The kernels, written once (with the other body_*.h). An ISA's unit includes its vector header (struct
// V) and then this file, so that every ISA compiles its own copy inside an anonymous namespace: no symbol but the table
// leaves the unit. No std:: algorithms or containers here.
//
// V provides P lanes of float (F), of int32 (I), vectors of 4 P bytes (B), and the operations used below.
#pragma once

#include "kernel/kernels.h"
#include "kernel/layout.h"
#include "panel_formats.inc"

namespace llorch::kernel {
namespace {

using F = V::F;
using I = V::I;
using B = V::B;
constexpr int P = V::P;
static_assert(16 % P == 0);

inline std::int64_t min64(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// ----------------------------------------------------------------------------------------------------------------
// exponential

/// e^x, relative error below 2e-7 on [-86, 88]; 0 below, held at e^88.7 above. Range reduction by ln 2 in two parts,
/// then a polynomial of degree 6 (Taylor coefficients: the interval is |r| <= ln2 / 2).
inline F exp_f(F x) {
  const F clamped = V::min(V::max(x, V::set1(-87.3f)), V::set1(88.7f));
  const F n = V::round(V::mul(clamped, V::set1(1.44269504f)));
  F r = V::fma(n, V::set1(-0.693359375f), clamped);
  r = V::fma(n, V::set1(2.12194440e-4f), r);
  F p = V::set1(1.0f / 720);
  p = V::fma(p, r, V::set1(1.0f / 120));
  p = V::fma(p, r, V::set1(1.0f / 24));
  p = V::fma(p, r, V::set1(1.0f / 6));
  p = V::fma(p, r, V::set1(0.5f));
  p = V::fma(p, r, V::set1(1.0f));
  p = V::fma(p, r, V::set1(1.0f));
  const F result = V::mul(V::mul(p, V::pow2(V::sub(n, V::set1(1)))), V::set1(2));
  return V::select_less(x, V::set1(-87.3f), V::zero(), result);
}

/// A tail of n < P floats through a padded buffer.
inline F load_tail(const float* p, std::int64_t n) {
  float buffer[P] = {};
  for (std::int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return V::load(buffer);
}
inline void store_tail(float* p, std::int64_t n, F v) {
  float buffer[P];
  V::store(buffer, v);
  for (std::int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

template<class Op>
inline void map(std::int64_t n, float* out, const Op& op) {
  std::int64_t i = 0;
  for (; i + P <= n; i += P) V::store(out + i, op([&](const float* p) { return V::load(p + i); }));
  if (i < n) store_tail(out + i, n - i, op([&](const float* p) { return load_tail(p + i, n - i); }));
}

/// The same. True: all results are finite. Zero times what is not finite is NaN, and stays so in a sum.
template<class Op>
inline bool map_finite(std::int64_t n, float* out, const Op& op) {
  F poison = V::zero();
  map(n, out, [&](auto at) {
    const F result = op(at);
    poison = V::fma(result, V::zero(), poison);
    return result;
  });
  return V::sum(poison) == 0;
}

// ------------------------------------------------------------------------------------------------------------------
// row operators

bool within(const float* x, std::int64_t n, float limit) {
  const F scale = V::set1(3.4028235e38f / limit);  // larger values become infinite
  F poison = V::zero();
  std::int64_t i = 0;
  for (; i + P <= n; i += P) poison = V::fma(V::mul(V::load(x + i), scale), V::zero(), poison);
  if (i < n) poison = V::fma(V::mul(load_tail(x + i, n - i), scale), V::zero(), poison);
  return V::sum(poison) == 0;
}

void add(const float* x, std::int64_t n, float* out) {
  map(n, out, [&](auto at) { return V::add(at(out), at(x)); });
}
void add_scaled(const float* x, float scale, std::int64_t n, float* out) {
  map(n, out, [&](auto at) { return V::fma(at(x), V::set1(scale), at(out)); });
}
bool silu_mul(const float* gate, const float* up, std::int64_t n, float* out) {
  return map_finite(n, out, [&](auto at) {
    const F g = at(gate);
    return V::mul(V::div(g, V::add(V::set1(1), exp_f(V::sub(V::zero(), g)))), at(up));
  });
}
/// gpt-oss: gate <= limit, |up| <= limit; gate * sigmoid(alpha * gate) * (up + 1).
bool swiglu_clamped(const float* gate, const float* up, std::int64_t n, float limit, float alpha, float* out) {
  return map_finite(n, out, [&](auto at) {
    const F raw_gate = at(gate), raw_up = at(up);
    const F g = V::min(raw_gate, V::set1(limit));
    const F u = V::max(V::min(raw_up, V::set1(limit)), V::set1(-limit));
    const F s = V::div(g, V::add(V::set1(1), exp_f(V::mul(V::set1(-alpha), g))));
    const F one = V::fma(raw_gate, V::zero(), V::fma(raw_up, V::zero(), V::set1(1)));  // NaN: clamping hides what
    return V::mul(V::mul(s, V::add(u, V::set1(1))), one);                              // is not finite
  });
}
/// 0.5 x (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3), which is x / (1 + e^(-2u)).
inline F gelu_of(F v) {
  const F cube = V::mul(V::mul(v, v), v);
  const F u = V::mul(V::set1(-2 * 0.7978845608f), V::fma(cube, V::set1(0.044715f), v));
  return V::div(v, V::add(V::set1(1), exp_f(u)));
}
bool gelu(const float* x, std::int64_t n, float* out) {
  return map_finite(n, out, [&](auto at) { return gelu_of(at(x)); });
}
bool gelu_mul(const float* gate, const float* up, std::int64_t n, float* out) {
  return map_finite(n, out, [&](auto at) { return V::mul(gelu_of(at(gate)), at(up)); });
}
/// x (1 + erf(x / sqrt 2)) / 2 by erfc(z) = t e^(p(t) - z^2), t = 1 / (1 + z/2), z = |x| / sqrt 2; p: Press et al.,
/// Numerical Recipes, 6.2 (relative error of erfc below 1.2e-7).
inline F gelu_erf_of(F v) {
  constexpr float kTerms[] = {0.17087277f,  -0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f,
                              -0.18628806f, 0.09678418f,  0.37409196f, 1.00002368f,  -1.26551223f};
  const F size = V::abs(v), z = V::mul(size, V::set1(0.70710678f));
  const F t = V::div(V::set1(1), V::fma(z, V::set1(0.5f), V::set1(1)));
  F p = V::set1(kTerms[0]);
#pragma GCC unroll 9
  for (int i = 1; i < 10; ++i) p = V::fma(p, t, V::set1(kTerms[i]));
  const F beyond = V::mul(t, exp_f(V::fma(V::sub(V::zero(), z), z, p)));
  const F half = V::mul(V::mul(V::set1(0.5f), v), beyond);
  return V::select_less(v, V::zero(), half, V::sub(v, half));
}
bool gelu_erf(const float* x, std::int64_t n, float* out) {
  return map_finite(n, out, [&](auto at) { return gelu_erf_of(at(x)); });
}
bool gelu_erf_mul(const float* gate, const float* up, std::int64_t n, float* out) {
  return map_finite(n, out, [&](auto at) { return V::mul(gelu_erf_of(at(gate)), at(up)); });
}
void sigmoid_mul(const float* gate, bool one, std::int64_t n, float* x) {
  map(n, x, [&](auto at) {
    const F g = one ? V::set1(gate[0]) : at(gate);
    return V::div(at(x), V::add(V::set1(1), exp_f(V::sub(V::zero(), g))));
  });
}
/// tanh(y) = 1 - 2 / (e^(2y) + 1).
void soft_cap(float cap, std::int64_t n, float* x) {
  map(n, x, [&](auto at) {
    const F e = exp_f(V::div(V::mul(V::set1(2), at(x)), V::set1(cap)));
    return V::mul(V::sub(V::set1(1), V::div(V::set1(2), V::add(e, V::set1(1)))), V::set1(cap));
  });
}

void rope(float* x, const float* cos, const float* sin, int rotated, bool adjacent) {
  const int half = rotated / 2;
  for (int i = 0; i < half; ++i) {
    float& a = x[adjacent ? 2 * i : i];
    float& b = x[adjacent ? 2 * i + 1 : i + half];
    const float new_a = a * cos[i] - b * sin[i], new_b = a * sin[i] + b * cos[i];
    a = new_a, b = new_b;
  }
}

}  // namespace
}  // namespace llorch::kernel

#include "kernel/body_norms.h"
#include "kernel/body_quantize.h"
#include "kernel/body_recurrence.h"

#include "kernel/body_blocks.h"

#include "kernel/body_plain.h"

namespace llorch::kernel {
namespace {

// ------------------------------------------------------------------------------------------------------------- the
// loop round both

/// `last`: no columns are left, and the bias is due.
inline void write_outputs(const LinearArgs& a, std::int64_t panel, std::int64_t row, const F* sums, int rows,
                          bool last) {
  const std::int64_t n0 = panel * P, count = min64(P, a.n - n0);
  const bool biased = last && a.bias;
  for (int r = 0; r < rows; ++r) {
    float* out = a.out + (row + r) * a.out_stride + n0;
    if (count == P) {
      V::store(out, biased ? V::add(sums[r], V::load(a.bias + n0)) : sums[r]);
    } else {
      store_tail(out, count, biased ? V::add(sums[r], load_tail(a.bias + n0, count)) : sums[r]);
    }
  }
}
/// What write_outputs() wrote before the last columns.
inline void read_outputs(const LinearArgs& a, std::int64_t panel, std::int64_t row, F* sums, int rows) {
  const std::int64_t n0 = panel * P, count = min64(P, a.n - n0);
  for (int r = 0; r < rows; ++r) {
    const float* out = a.out + (row + r) * a.out_stride + n0;
    sums[r] = count == P ? V::load(out) : load_tail(out, count);
  }
}

/// Calls run.operator()<rows>(first row): kRowTile rows at a time, then 4, 2, 1; two tiles of 4 in place of 6 and 2.
template<bool kEightTogether = false, class Run>
inline void for_rows(std::int64_t rows, Run&& run) {
  if constexpr (kEightTogether)
    if (rows == 8) return run.template operator()<8>(0);
  std::int64_t row = 0;
  for (; row + V::kRowTile <= rows && rows - row != V::kRowTile + 2; row += V::kRowTile)
    run.template operator()<V::kRowTile>(row);
  for (; V::kRowTile > 4 && row + 4 <= rows; row += 4) run.template operator()<4>(row);
  for (; row + 2 <= rows; row += 2) run.template operator()<2>(row);
  if (row < rows) run.template operator()<1>(row);
}

template<bool kEightTogether = false, class Block>
inline void for_panels(const LinearArgs& a, Block&& block) {
  for (std::int64_t panel = a.first_panel; panel < a.last_panel; ++panel) {
    const std::uint8_t* data = a.panels + panel * a.panel_bytes;
    for_rows<kEightTogether>(a.rows, [&]<int kRows>(std::int64_t row) {
      F sums[kRows];
      block.template run<kRows>(a, data, row, sums);
      write_outputs(a, panel, row, sums, kRows, true);
    });
  }
}

template<const PanelFormat& kF>
struct QuantBlock {
  template<int kRows>
  void run(const LinearArgs& a, const std::uint8_t* panel, std::int64_t row, F* sums) const {
    panel_block<kF, kRows>(a, panel, row, sums);
  }
};
template<class T>
struct PlainBlock {
  template<int kRows>
  void run(const LinearArgs& a, const std::uint8_t* panel, std::int64_t row, F* sums) const {
    plain_block<T, kRows>(a, panel, row, sums);
  }
};

}  // namespace
}  // namespace llorch::kernel

#include "kernel/body_rows.h"

namespace llorch::kernel {
namespace {

template<const PanelFormat& kF>
void linear_quantized(const LinearArgs& a) {
  if (a.rows >= UnpackedPanels<kF>::kFrom) return UnpackedPanels<kF>::run(a);
  // Codes that take long to unpack are unpacked once for eight rows, where there are registers for these.
  for_panels<V::kDotPairs && kF.nibbles && kF.bits>(a, QuantBlock<kF>{});
}
/// Some panels times all rows.
template<class T, int kPanels>
inline void plain_panels(const LinearArgs& a, std::int64_t panel) {
  const std::uint8_t* panels[kPanels];
  for (int p = 0; p < kPanels; ++p) panels[p] = a.panels + (panel + p) * a.panel_bytes;
  const auto run = [&]<int kRows, int kTiles>(std::int64_t row, int tiles) {
    F sums[kTiles][kPanels][kRows];
    plain_tiles<T, kRows, kPanels, kTiles>(a, panels, row, tiles, sums);
    for (int tile = 0; tile < tiles; ++tile)
      for (int p = 0; p < kPanels; ++p) write_outputs(a, panel + p, row + tile * kRows, sums[tile][p], kRows, true);
  };
  std::int64_t row = 0;
  for (std::int64_t tiles; (tiles = min64((a.rows - row) / V::kRowTile, 4)) > 0; row += tiles * V::kRowTile)
    run.template operator()<V::kRowTile, 4>(row, static_cast<int>(tiles));
  for_rows(a.rows - row, [&]<int kRows>(std::int64_t r) { run.template operator()<kRows, 1>(row + r, 1); });
}

template<class T>
void linear_plain(const LinearArgs& a) {
  constexpr int kPanels = P == 8 ? 3 : 4;  // with kRowTile rows, what the registers hold
  LinearArgs rest = a;
  for (; a.rows >= V::kRowTile && rest.first_panel + kPanels <= a.last_panel; rest.first_panel += kPanels)
    plain_panels<T, kPanels>(a, rest.first_panel);
  for_panels(rest, PlainBlock<T>{});
}

}  // namespace
}  // namespace llorch::kernel

#include "kernel/body_attention.h"
#include "kernel/body_low_rank.h"
#include "kernel/body_peaks.h"
#include "kernel/body_table.h"
