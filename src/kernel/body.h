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
#include "kernel/body_recurrence.h"
#include "kernel/body_quantize.h"

namespace llorch::kernel {
namespace {

// -------------------------------------------------------------------------------------------------- matrix products,
// block formats

/// The scales of one block of a panel, resolved per sub-block.
template<const PanelFormat& kF>
struct BlockScales {
  static constexpr bool kHasMinimum =
      kF.scales == Scales::kHalfMin || kF.scales == Scales::kSuperNibble || kF.scales == Scales::kSuperPair;
  /// Formats of 256 columns have whole scales under d. Where activations have one scale for all of them, their products
  /// are summed as whole numbers over the block; and so are, in pairs, those with what codes are off zero.
  static constexpr bool kWhole = kF.block == 256 && V::kScaleColumns == 256;
  static constexpr int kSubs = 32 / kF.sub;
  static constexpr bool kPairs = kWhole && V::kDotPairs;
  /// Elsewhere their whole minimums are, with sums of activations that are whole numbers for this.
  static constexpr bool kWholeMinimums = kF.block == 256 && kHasMinimum && !kWhole;
  static constexpr int kMinimumPairs = 128 / kF.sub;
  const std::uint8_t* at;
  F d, m;

  BlockScales() = default;
  explicit BlockScales(const std::uint8_t* block) : at(block), d(V::zero()), m(V::zero()) {
    if constexpr (kF.scales == Scales::kE8M0)
      d = V::load_e8m0_halved(block);
    else
      d = V::load_half(block);
    if constexpr (kHasMinimum) m = V::load_half(block + 2 * P);
    if constexpr (kF.scales == Scales::kSuper) at += 2 * P;
    if constexpr (kF.scales == Scales::kSuperNibble || kF.scales == Scales::kSuperPair) at += 4 * P;
  }
  /// Of sub-block s, where scales are whole.
  I whole_scale(int s) const {
    if constexpr (kF.scales == Scales::kSuper)
      return V::ints_i8(at + s * P);
    else if constexpr (kF.scales == Scales::kSuperNibble)
      return V::ints_low_nibble(at + s * P);
    else
      return V::ints_u8(at + 2 * s * P);
  }
  /// Adds what the codes of columns 32 s.. of the block are off zero: `totals` are two int16 per lane.
  template<class Vec>
  I add_zero(I sum, int s, B totals) const {
    const I low = whole_scale(kSubs * s), high = kSubs == 2 ? whole_scale(2 * s + 1) : low;
    return Vec::dot_pairs(sum, Vec::mul_pairs(Vec::make_pairs(low, high), -kF.zero), totals);
  }
  /// The whole minimums of sub-blocks 2 i and 2 i + 1, as two int16 in each lane.
  I minimum_pairs(int i) const {
    if constexpr (kF.scales == Scales::kSuperNibble)
      return V::make_pairs(V::ints_high_nibble(at + 2 * i * P), V::ints_high_nibble(at + (2 * i + 1) * P));
    else
      return V::make_pairs(V::ints_u8(at + (4 * i + 1) * P), V::ints_u8(at + (4 * i + 3) * P));
  }
  /// Of sub-block s.
  F scale(int s) const {
    if constexpr (kF.block == 256)
      return V::mul(d, V::to_float(whole_scale(s)));
    else
      return d;
  }
  F minimum(int s) const {
    if constexpr (kF.scales == Scales::kSuperNibble)
      return V::mul(m, V::load_high_nibble(at + s * P));
    else if constexpr (kF.scales == Scales::kSuperPair)
      return V::mul(m, V::load_u8(at + (2 * s + 1) * P));
    else
      return m;
  }
};

/// Eight vectors of codes, four columns each, of 32 columns.
template<const PanelFormat& kF>
inline void unpack(const std::uint8_t* plane, B* codes) {
  constexpr int kVector = 4 * P;
  if constexpr (kF.bytes) {
    for (int g = 0; g < 8; ++g) codes[g] = V::bytes(plane + g * kVector);
    return;
  }
  const std::uint8_t* at = plane;
  if constexpr (kF.nibbles) {
    for (int i = 0; i < 4; ++i) {
      const B both = V::bytes(at + i * kVector);
      codes[i] = V::low_nibble(both);
      codes[i + 4] = V::high_nibble(both);
      if constexpr (kF.indexed) {
        codes[i] = V::lookup(kF.lookup, codes[i]);
        codes[i + 4] = V::lookup(kF.lookup, codes[i + 4]);
      }
    }
    at += 4 * kVector;
  }
  if constexpr (kF.pairs) {
    for (int i = 0; i < 2; ++i) {
      const B four = V::bytes(at + i * kVector);
      for (int j = 0; j < 4; ++j) {
        const B pair = V::pair(four, j);
        codes[4 * i + j] = kF.nibbles ? V::or_shifted(codes[4 * i + j], pair, 4) : pair;
      }
    }
    at += 2 * kVector;
  }
  if constexpr (kF.bits) {
    const B eight = V::bytes(at);
    for (int g = 0; g < 8; ++g) codes[g] = V::or_shifted(codes[g], V::bit(eight, g), kF.nibbles ? 4 : 2);
  }
}

template<bool kWide>
inline I dot4(I sum, B codes, B activations) {
  if constexpr (kWide)
    return V::dot_wide(sum, codes, activations);
  else
    return V::dot(sum, codes, activations);
}

/// For the ISAs that have it.
template<class Vec>
inline I dot4_signed(I sum, B codes, B activations) {
  return Vec::dot_signed(sum, codes, activations);
}

/// Of vectors of codes: so many that the products of pairs with activations can be added in int16.
constexpr int joined_vectors(const PanelFormat& f) {
  int most = f.bytes ? 255 : f.nibbles ? 15 + 48 * f.pairs + 16 * f.bits : 3 * f.pairs + 4 * f.bits;
  if (f.indexed) {
    most = 0;
    for (int i = 0; i < 16; ++i) most = f.lookup[i] > most ? f.lookup[i] : most;
  }
  const int fit = 32767 / (2 * 127 * most);
  return fit >= 8 ? 8 : fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

/// Rows of activations as a panel needs them.
template<const PanelFormat& kF, int kRows>
struct CodeRows {
  const std::int8_t* codes[kRows];
  const float* scales[kRows];
  const std::int16_t* sums[kRows];
  const std::int16_t* minimum_sums[kRows];
  const float* minimum_scales[kRows];
  CodeRows(const QuantizedRows& q, std::int64_t row) {
    constexpr int kScaleColumns = kF.block == 256 ? V::kScaleColumns : 32;
    for (int r = 0; r < kRows; ++r) {
      codes[r] = q.codes + (row + r) * q.stride;
      scales[r] = q.scales + (row + r) * (q.stride / kScaleColumns);
      sums[r] = q.sums + (row + r) * (q.stride / 16);
      if constexpr (BlockScales<kF>::kWholeMinimums) {
        minimum_sums[r] = q.minimum_sums + (row + r) * (q.stride / 256 * kMinimumSums);
        minimum_scales[r] = q.minimum_scales + (row + r) * (q.stride / 256);
      }
    }
  }
  /// Sum of the codes of sub-block h of columns 32 c..
  int total(int r, std::int64_t c, int h) const {
    return kF.sub == 32 ? sums[r][2 * c] + sums[r][2 * c + 1] : sums[r][2 * c + h];
  }
  /// The sums of the codes of columns 32 c.., as two int16 in each lane.
  B totals(int r, std::int64_t c) const { return V::broadcast4(reinterpret_cast<const std::int8_t*>(sums[r] + 2 * c)); }
  /// What the minimums of sub-blocks 2 i and 2 i + 1 of block b are multiplied by, as two int16 in each lane.
  B minimum_totals(int r, std::int64_t b, int i) const {
    return V::broadcast4(
        reinterpret_cast<const std::int8_t*>(minimum_sums[r] + b * kMinimumSums + (kF.sub == 32 ? 0 : 8) + 2 * i));
  }
  static constexpr bool kSigned = kF.wide && kF.zero == 128 && V::kDotSigned;
  /// What the products of a sub-block are added to, so that its codes are taken as signed; where kPairs does not do
  /// that for all sub-blocks at once.
  I start(int r, std::int64_t c, int h) const {
    return V::set1i(kSigned || BlockScales<kF>::kPairs ? 0 : -kF.zero * total(r, c, h));
  }
  /// Columns 32 c + 4 g.. of row r, in each lane.
  B four(int r, std::int64_t c, int g) const { return V::broadcast4(codes[r] + 32 * c + 4 * g); }
  /// Adds the products of `four` columns with their codes `w`.
  static I dot4(I sum, B w, B four) {
    if constexpr (kSigned)
      return dot4_signed<V>(sum, w, four);
    else
      return kernel::dot4<kF.wide>(sum, w, four);
  }
  I dot(int r, std::int64_t c, int h, const B* w) const {
    I sum = start(r, c, h);
    if constexpr (V::kDotJoined && !kF.wide) return dot_joined<V>(sum, r, c, h, w);
    for (int g = h * kF.sub / 4; g < (h + 1) * kF.sub / 4; ++g) sum = dot4(sum, w[g], four(r, c, g));
    return sum;
  }
  /// For the ISA that has it.
  template<class Vec>
  I dot_joined(I sum, int r, std::int64_t c, int h, const B* w) const {
    constexpr int kGroups = kF.sub / 4, kTogether = joined_vectors(kF) < kGroups ? joined_vectors(kF) : kGroups;
#pragma GCC unroll 8
    for (int g = h * kGroups; g < (h + 1) * kGroups; g += kTogether) {
      B pairs = Vec::pair_products(w[g], four(r, c, g));
#pragma GCC unroll 8
      for (int i = 1; i < kTogether; ++i)
        pairs = Vec::add_pair_products(pairs, Vec::pair_products(w[g + i], four(r, c, g + i)));
      sum = Vec::add_joined(sum, pairs);
    }
    return sum;
  }
};

/// Adds the products of sub-block h of 32 columns to a sum. `part` keeps what the first of two adds.
template<const PanelFormat& kF>
inline void add_scaled_dot(I dot, int h, F scale, F x_scale, F& part, F& sum) {
  if constexpr (kF.sub == 32)
    sum = V::fma(V::mul(V::to_float(dot), x_scale), scale, sum);
  else if (h == 0)
    part = V::mul(V::to_float(dot), scale);
  else
    sum = V::fma(V::fma(V::to_float(dot), scale, part), x_scale, sum);
}

/// What one block of a panel adds to the sums of kRows rows.
template<const PanelFormat& kF, int kRows>
struct BlockSums {
  using Scale = BlockScales<kF>;
  I whole[kRows];  // where products are summed as whole numbers
  F part[kRows];   // elsewhere, where 32 columns have two scales
  BlockSums() {
    if constexpr (Scale::kWhole)
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) whole[r] = V::set1i(0);
  }
  /// Of the block's columns 32 s.., which are the row's columns 32 c..
  void add_totals(const Scale& block, const CodeRows<kF, kRows>& x, int s, std::int64_t c) {
    if constexpr (Scale::kPairs && kF.zero != 0)
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) whole[r] = block.template add_zero<V>(whole[r], s, x.totals(r, c));
  }
  /// The products of row r with sub-block h of those columns, whose scale is `scale`.
  template<bool kMinimums>
  void add(const Scale& block, const CodeRows<kF, kRows>& x, int r, std::int64_t b, std::int64_t c, int s, int h, I dot,
           F scale, F* sums) {
    const int sub = 32 / kF.sub * s + h;
    const float x_scale = x.scales[r][Scale::kWhole ? b : c];
    if constexpr (Scale::kWhole)
      whole[r] = V::add_ints(whole[r], V::mul_ints(dot, block.whole_scale(sub)));
    else
      add_scaled_dot<kF>(dot, h, scale, V::set1(x_scale), part[r], sums[r]);
    if constexpr (kMinimums && !Scale::kWholeMinimums)
      sums[r] = V::fma(V::set1(-x_scale * static_cast<float>(x.total(r, c, h))), block.minimum(sub), sums[r]);
  }
  /// Columns 32 s.. of the block, which are the row's columns 32 c..; codes(g): those of columns 4 g.. of them. Four
  /// columns at a time, a vector of codes meets all rows, so that no sum waits for its last product and no code is
  /// loaded twice; but where products are joined in int16 on their way (AVX2's narrow codes), row after row is faster.
  template<bool kMinimums, class Codes, class ScaleOf>
  void add_columns(const Scale& block, const CodeRows<kF, kRows>& x, std::int64_t b, std::int64_t c, int s,
                   const Codes& codes, const ScaleOf& scale_of, F* sums) {
    add_totals(block, x, s, c);
#pragma GCC unroll 2
    for (int h = 0; h < 32 / kF.sub; ++h) {
      const F scale = Scale::kWhole ? block.d : scale_of(32 / kF.sub * s + h);
      if constexpr (V::kDotPairs || kF.wide) {
        I dots[kRows];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) dots[r] = x.start(r, c, h);
#pragma GCC unroll 8
        for (int g = h * kF.sub / 4; g < (h + 1) * kF.sub / 4; ++g) {
          const B w = codes(g);
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) dots[r] = x.dot4(dots[r], w, x.four(r, c, g));
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) add<kMinimums>(block, x, r, b, c, s, h, dots[r], scale, sums);
      } else {
        B w[8];
        for (int g = 0; g < 8; ++g) w[g] = codes(g);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) add<kMinimums>(block, x, r, b, c, s, h, x.dot(r, c, h, w), scale, sums);
      }
    }
  }
  template<bool kMinimums>
  void finish(const Scale& block, const CodeRows<kF, kRows>& x, std::int64_t b, F* sums) const {
    if constexpr (Scale::kWhole)
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
        sums[r] = V::fma(V::mul(V::to_float(whole[r]), V::set1(x.scales[r][b])), block.d, sums[r]);
    if constexpr (kMinimums && Scale::kWholeMinimums) {
      I below[kRows];
      for (int r = 0; r < kRows; ++r) below[r] = V::set1i(0);
#pragma GCC unroll 8
      for (int i = 0; i < Scale::kMinimumPairs; ++i) {
        const I pairs = block.minimum_pairs(i);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) below[r] = V::dot_pairs(below[r], pairs, x.minimum_totals(r, b, i));
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
        sums[r] = V::fma(V::mul(V::to_float(below[r]), V::set1(x.minimum_scales[r][b])), block.m, sums[r]);
    }
  }
};

constexpr int kAhead = 4096;  // bytes between what is multiplied and what is asked for

struct Nothing {
  void operator()(std::int64_t) const {}
};

/// One panel times kRows activation rows. `after_block` is called with the number of each block that was read.
template<const PanelFormat& kF, int kRows, bool kMinimums = BlockScales<kF>::kHasMinimum, class AfterBlock = Nothing>
inline void panel_block(const LinearArgs& a, const std::uint8_t* panel, std::int64_t row, F* sums,
                        const AfterBlock& after_block = {}) {
  constexpr std::int64_t kBlockBytes = block_bytes(kF, P), kPlane = plane_vectors(kF) * 4 * P;
  const CodeRows<kF, kRows> x(a.quantized, row);
  for (int r = 0; r < kRows; ++r) sums[r] = V::zero();
  std::int64_t c = 0;  // 32 columns each
  for (std::int64_t b = 0; b < a.k / kF.block; ++b, panel += kBlockBytes) {
    const BlockScales<kF> block(panel);
    const std::uint8_t* plane = panel + P * scale_bytes_per_row(kF);
    BlockSums<kF, kRows> added;
    for (int s = 0; s < kF.block / 32; ++s, ++c, plane += kPlane) {
      // Evenly, because the buffers that wait for memory are few. Later rows find the panel in the cache.
      if (row == 0)
        for (int i = 0; i < kBlockBytes / (kF.block / 32); i += 64)
          __builtin_prefetch(panel + kAhead + s * (kBlockBytes / (kF.block / 32)) + i, 0, 2);
      B w[8];
      unpack<kF>(plane, w);
      added.template add_columns<kMinimums>(
          block, x, b, c, s, [&](int g) { return w[g]; }, [&](int sub) { return block.scale(sub); }, sums);
    }
    added.template finish<kMinimums>(block, x, b, sums);
    after_block(b);
  }
}

}  // namespace
}  // namespace llorch::kernel

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
template<class Run>
inline void for_rows(std::int64_t rows, Run&& run) {
  std::int64_t row = 0;
  for (; row + V::kRowTile <= rows && rows - row != V::kRowTile + 2; row += V::kRowTile)
    run.template operator()<V::kRowTile>(row);
  for (; V::kRowTile > 4 && row + 4 <= rows; row += 4) run.template operator()<4>(row);
  for (; row + 2 <= rows; row += 2) run.template operator()<2>(row);
  if (row < rows) run.template operator()<1>(row);
}

template<class Block>
inline void for_panels(const LinearArgs& a, Block&& block) {
  for (std::int64_t panel = a.first_panel; panel < a.last_panel; ++panel) {
    const std::uint8_t* data = a.panels + panel * a.panel_bytes;
    for_rows(a.rows, [&]<int kRows>(std::int64_t row) {
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
  for_panels(a, QuantBlock<kF>{});
}
template<class T>
void linear_plain(const LinearArgs& a) {
  for_panels(a, PlainBlock<T>{});
}

}  // namespace
}  // namespace llorch::kernel

#include "kernel/body_attention.h"
#include "kernel/body_peaks.h"
#include "kernel/body_table.h"
