// The kernels, written once. An ISA's unit includes its vector header (struct V) and then this file, so that every ISA
// compiles its own copy inside an anonymous namespace: no symbol but the table leaves the unit. No std:: algorithms or
// containers here.
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

// ------------------------------------------------------------------------------------------------------------------
// row operators

void add(const float* x, std::int64_t n, float* out) {
  map(n, out, [&](auto at) { return V::add(at(out), at(x)); });
}
void add_scaled(const float* x, float scale, std::int64_t n, float* out) {
  map(n, out, [&](auto at) { return V::fma(at(x), V::set1(scale), at(out)); });
}
void silu_mul(const float* gate, const float* up, std::int64_t n, float* out) {
  map(n, out, [&](auto at) {
    const F g = at(gate);
    return V::mul(V::div(g, V::add(V::set1(1), exp_f(V::sub(V::zero(), g)))), at(up));
  });
}
/// gpt-oss: gate <= limit, |up| <= limit; gate * sigmoid(alpha * gate) * (up + 1).
void swiglu_clamped(const float* gate, const float* up, std::int64_t n, float limit, float alpha, float* out) {
  map(n, out, [&](auto at) {
    const F g = V::min(at(gate), V::set1(limit));
    const F u = V::max(V::min(at(up), V::set1(limit)), V::set1(-limit));
    const F s = V::div(g, V::add(V::set1(1), exp_f(V::mul(V::set1(-alpha), g))));
    return V::mul(s, V::add(u, V::set1(1)));
  });
}
/// 0.5 x (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3), which is x / (1 + e^(-2u)).
void gelu(const float* x, std::int64_t n, float* out) {
  map(n, out, [&](auto at) {
    const F v = at(x);
    const F cube = V::mul(V::mul(v, v), v);
    const F u = V::mul(V::set1(-2 * 0.7978845608f), V::fma(cube, V::set1(0.044715f), v));
    return V::div(v, V::add(V::set1(1), exp_f(u)));
  });
}

template<class Op>
inline float sum_of(std::int64_t n, const Op& op) {
  F total = V::zero();
  std::int64_t i = 0;
  for (; i + P <= n; i += P) total = V::add(total, op([&](const float* p) { return V::load(p + i); }));
  if (i < n) {
    float buffer[P], kept[P] = {};
    V::store(buffer, op([&](const float* p) { return load_tail(p + i, n - i); }));
    for (std::int64_t j = 0; j < n - i; ++j) kept[j] = buffer[j];
    total = V::add(total, V::load(kept));
  }
  return V::sum(total);
}

void rms_norm(const float* x, const float* weight, std::int64_t n, float eps, float* out) {
  const float squares = sum_of(n, [&](auto at) { return V::mul(at(x), at(x)); });
  const float scale = 1.0f / __builtin_sqrtf(squares / static_cast<float>(n) + eps);
  map(n, out, [&](auto at) { return V::mul(V::mul(at(x), V::set1(scale)), at(weight)); });
}

void layer_norm(const float* x, const float* weight, const float* bias, std::int64_t n, float eps, float* out) {
  const float mean = sum_of(n, [&](auto at) { return at(x); }) / static_cast<float>(n);
  const float variance = sum_of(n,
                                [&](auto at) {
                                  const F d = V::sub(at(x), V::set1(mean));
                                  return V::mul(d, d);
                                }) /
                         static_cast<float>(n);
  const float scale = 1.0f / __builtin_sqrtf(variance + eps);
  map(n, out,
      [&](auto at) { return V::fma(V::mul(V::sub(at(x), V::set1(mean)), V::set1(scale)), at(weight), at(bias)); });
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

void quantize_row(const float* x, std::int64_t n, int block, int tile, std::int8_t* codes, float* scales,
                  std::int16_t* sums, std::uint16_t*) {
  const int width = tile_columns(block);
  for (std::int64_t begin = 0; begin < n; begin += block, scales += tile) {
    F extreme = V::zero();
    for (int i = 0; i < block; i += P) extreme = V::max(extreme, V::abs(V::load(x + begin + i)));
    const float top = V::maximum(extreme);
    const float inverse = top > 0 ? 127 / top : 0;
    *scales = top / 127;
    for (std::int64_t c = begin; c < begin + block; c += 16) {
      std::int8_t* to = codes + (tile == 1 ? c : c / width * width * tile + c % width);
      F total = V::zero();  // whole numbers: exact
      for (int i = 0; i < 16; i += P) {
        const F rounded = V::round(V::mul(V::load(x + c + i), V::set1(inverse)));
        V::store_i8(to + i, rounded);
        total = V::add(total, rounded);
      }
      sums[c / 32 * 2 * tile + c / 16 % 2] = static_cast<std::int16_t>(V::sum(total));
    }
  }
}

// -------------------------------------------------------------------------------------------------- matrix products,
// block formats

/// The scales of one block of a panel, resolved per sub-block.
template<const PanelFormat& kF>
struct BlockScales {
  static constexpr bool kHasMinimum =
      kF.scales == Scales::kHalfMin || kF.scales == Scales::kSuperNibble || kF.scales == Scales::kSuperPair;
  /// Formats of 256 columns: whole scales under d. Their products are summed as whole numbers over the block.
  static constexpr bool kWhole = kF.block == 256;
  const std::uint8_t* at;
  F d, m;

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

/// Rows of activations as a panel needs them.
template<const PanelFormat& kF, int kRows>
struct CodeRows {
  const std::int8_t* codes[kRows];
  const float* scales[kRows];
  const std::int16_t* sums[kRows];
  CodeRows(const QuantizedRows& q, std::int64_t row) {
    constexpr int kScaleColumns = kF.block == 256 ? 256 : 32;
    for (int r = 0; r < kRows; ++r) {
      codes[r] = q.codes + (row + r) * q.stride;
      scales[r] = q.scales + (row + r) * (q.stride / kScaleColumns);
      sums[r] = q.sums + (row + r) * (q.stride / 16);
    }
  }
  /// Sum of the codes of sub-block h of columns 32 c..
  int total(int r, std::int64_t c, int h) const {
    return kF.sub == 32 ? sums[r][2 * c] + sums[r][2 * c + 1] : sums[r][2 * c + h];
  }
  /// Products of one sub-block, its codes taken as signed.
  I dot(int r, std::int64_t c, int h, const B* w) const {
    I sum = V::set1i(-kF.zero * total(r, c, h));
    for (int g = h * kF.sub / 4; g < (h + 1) * kF.sub / 4; ++g)
      sum = dot4<kF.wide>(sum, w[g], V::broadcast4(codes[r] + 32 * c + 4 * g));
    return sum;
  }
};

constexpr int kAhead = 4096;  // bytes between what is multiplied and what is asked for

/// One panel times kRows activation rows.
template<const PanelFormat& kF, int kRows, bool kMinimums = BlockScales<kF>::kHasMinimum>
inline void panel_block(const LinearArgs& a, const std::uint8_t* panel, std::int64_t row, F* sums) {
  using Scale = BlockScales<kF>;
  constexpr std::int64_t kBlockBytes = block_bytes(kF, P), kPlane = plane_vectors(kF) * 4 * P;
  constexpr int kSteps = 32 / kF.sub;  // sub-blocks of 32 columns
  const CodeRows<kF, kRows> x(a.quantized, row);
  for (int r = 0; r < kRows; ++r) sums[r] = V::zero();
  std::int64_t c = 0;  // 32 columns each
  for (std::int64_t b = 0; b < a.k / kF.block; ++b, panel += kBlockBytes) {
    const Scale block(panel);
    const std::uint8_t* plane = panel + P * scale_bytes_per_row(kF);
    I whole[kRows];
    for (int r = 0; r < kRows; ++r) whole[r] = V::set1i(0);
    for (int s = 0; s < kF.block / 32; ++s, ++c, plane += kPlane) {
      // Evenly, because the buffers that wait for memory are few.
      if constexpr (kRows <= 2)
        for (int i = 0; i < kBlockBytes / (kF.block / 32); i += 64)
          __builtin_prefetch(panel + kAhead + s * (kBlockBytes / (kF.block / 32)) + i, 0, 2);
      B w[8];
      unpack<kF>(plane, w);
      for (int h = 0; h < kSteps; ++h) {
        const F minimum = block.minimum(kSteps * s + h);
        for (int r = 0; r < kRows; ++r) {
          const I dot = x.dot(r, c, h, w);
          const float x_scale = x.scales[r][Scale::kWhole ? b : c];
          if constexpr (Scale::kWhole)
            whole[r] = V::add_ints(whole[r], V::mul_ints(dot, block.whole_scale(kSteps * s + h)));
          else
            sums[r] = V::fma(V::mul(V::to_float(dot), V::set1(x_scale)), block.d, sums[r]);
          if constexpr (kMinimums)
            sums[r] = V::fma(V::set1(-x_scale * static_cast<float>(x.total(r, c, h))), minimum, sums[r]);
        }
      }
    }
    if constexpr (Scale::kWhole)
      for (int r = 0; r < kRows; ++r)
        sums[r] = V::fma(V::mul(V::to_float(whole[r]), V::set1(x.scales[r][b])), block.d, sums[r]);
  }
}

// -------------------------------------------------------------------------------------------------- matrix products,
// plain formats

struct PlainF32 {
  static constexpr int kBytes = 4;
  static F load(const std::uint8_t* p) { return V::load(reinterpret_cast<const float*>(p)); }
};
struct PlainF16 {
  static constexpr int kBytes = 2;
  static F load(const std::uint8_t* p) { return V::load_half(p); }
};
struct PlainBF16 {
  static constexpr int kBytes = 2;
  static F load(const std::uint8_t* p) { return V::load_bfloat(p); }
};

/// Four interleaved partial sums over the columns, joined in a fixed order: short dependency chains without splitting
/// by rows.
template<class T, int kRows>
inline void plain_block(const LinearArgs& a, const std::uint8_t* panel, std::int64_t row, F* sums) {
  const float* x[kRows];
  F partial[kRows][4];
  for (int r = 0; r < kRows; ++r) {
    x[r] = a.x + (row + r) * a.x_stride;
    for (int u = 0; u < 4; ++u) partial[r][u] = V::zero();
  }
  std::int64_t c = 0;
  for (; c + 4 <= a.k; c += 4) {
    if constexpr (kRows <= 2)
      for (int i = 0; i < 4 * P * T::kBytes; i += 64) __builtin_prefetch(panel + c * P * T::kBytes + kAhead + i);
    for (int u = 0; u < 4; ++u) {
      const F w = T::load(panel + (c + u) * P * T::kBytes);
      for (int r = 0; r < kRows; ++r) partial[r][u] = V::fma(w, V::set1(x[r][c + u]), partial[r][u]);
    }
  }
  for (int u = 0; c < a.k; ++c, ++u) {
    const F w = T::load(panel + c * P * T::kBytes);
    for (int r = 0; r < kRows; ++r) partial[r][u] = V::fma(w, V::set1(x[r][c]), partial[r][u]);
  }
  for (int r = 0; r < kRows; ++r)
    sums[r] = V::add(V::add(partial[r][0], partial[r][1]), V::add(partial[r][2], partial[r][3]));
}

// ------------------------------------------------------------------------------------------------------------- the
// loop round both

inline void write_outputs(const LinearArgs& a, std::int64_t panel, std::int64_t row, const F* sums, int rows) {
  const std::int64_t n0 = panel * P, count = min64(P, a.n - n0);
  for (int r = 0; r < rows; ++r) {
    float* out = a.out + (row + r) * a.out_stride + n0;
    if (count == P) {
      V::store(out, a.bias ? V::add(sums[r], V::load(a.bias + n0)) : sums[r]);
    } else {
      store_tail(out, count, a.bias ? V::add(sums[r], load_tail(a.bias + n0, count)) : sums[r]);
    }
  }
}

template<class Block>
inline void for_panels(const LinearArgs& a, const Block& block) {
  for (std::int64_t panel = a.first_panel; panel < a.last_panel; ++panel) {
    const std::uint8_t* data = a.panels + panel * a.panel_bytes;
    std::int64_t row = 0;
    F sums[V::kRowTile > 4 ? V::kRowTile : 4];
    for (; row + V::kRowTile <= a.rows; row += V::kRowTile) {
      block.template run<V::kRowTile>(a, data, row, sums);
      write_outputs(a, panel, row, sums, V::kRowTile);
    }
    for (; V::kRowTile > 4 && row + 4 <= a.rows; row += 4) {
      block.template run<4>(a, data, row, sums);
      write_outputs(a, panel, row, sums, 4);
    }
    for (; row + 2 <= a.rows; row += 2) {
      block.template run<2>(a, data, row, sums);
      write_outputs(a, panel, row, sums, 2);
    }
    if (row < a.rows) {
      block.template run<1>(a, data, row, sums);
      write_outputs(a, panel, row, sums, 1);
    }
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

template<const PanelFormat& kF>
void linear_quantized(const LinearArgs& a) {
  for_panels(a, QuantBlock<kF>{});
}
template<class T>
void linear_plain(const LinearArgs& a) {
  for_panels(a, PlainBlock<T>{});
}

// --------------------------------------------------------------------------------------------------------------------
// attention

template<KvType kType>
inline F load_kv(const std::uint8_t* p, std::int64_t index) {
  if constexpr (kType == KvType::kF32)
    return V::load(reinterpret_cast<const float*>(p) + index);
  else if constexpr (kType == KvType::kF16)
    return V::load_half(p + 2 * index);
  else
    return V::load_i8(p + index);
}

constexpr int kPageVectors = 64 / P;                           // of a page's positions
constexpr int kVectors = kPageVectors < 4 ? kPageVectors : 4;  // that are summed at once

/// Scores of kQ queries at the 64 positions of a page, 64 each: the dimensions are summed in order, the positions are
/// lanes.
template<KvType kType, int kQ>
inline void page_scores(const AttendArgs& a, const AttendQuery* queries, const std::uint8_t* page, float* scores) {
  constexpr int kAtOnce = kType == KvType::kQ8_0 && kVectors > 2 ? 2 : kVectors;
  for (int lane = 0; lane < 64; lane += kAtOnce * P) {
    F total[kQ][kAtOnce];
    for (int q = 0; q < kQ; ++q)
      for (int v = 0; v < kAtOnce; ++v) total[q][v] = V::zero();
    const auto sum = [&](int begin, int end, F(&to)[kQ][kAtOnce]) {
      for (int d = begin; d < end; ++d) {
        F keys[kAtOnce];
        for (int v = 0; v < kAtOnce; ++v) keys[v] = load_kv<kType>(page, d * 64 + lane + v * P);
        for (int q = 0; q < kQ; ++q) {
          const F x = V::set1(queries[q].query[d]);
          for (int v = 0; v < kAtOnce; ++v) to[q][v] = V::fma(x, keys[v], to[q][v]);
        }
      }
    };
    if constexpr (kType == KvType::kQ8_0) {
      for (int block = 0; block * 32 < a.layout.head_dim; ++block) {
        F part[kQ][kAtOnce];
        for (int q = 0; q < kQ; ++q)
          for (int v = 0; v < kAtOnce; ++v) part[q][v] = V::zero();
        sum(block * 32, static_cast<int>(min64(block * 32 + 32, a.layout.head_dim)), part);
        for (int v = 0; v < kAtOnce; ++v) {
          const F scale = V::load_half(page + a.layout.key_scales + 2 * (block * 64 + lane + v * P));
          for (int q = 0; q < kQ; ++q) total[q][v] = V::fma(part[q][v], scale, total[q][v]);
        }
      }
    } else {
      sum(0, a.layout.head_dim, total);
    }
    for (int q = 0; q < kQ; ++q)
      for (int v = 0; v < kAtOnce; ++v) V::store(scores + q * 64 + lane + v * P, V::mul(total[q][v], V::set1(a.scale)));
  }
}

/// sums[q][d] += weights[q][position] * value[position][d] for positions first..last-1, in order.
template<KvType kType, int kQ>
inline void page_values(const AttendArgs& a, const std::uint8_t* page, const float* weights, int first, int last,
                        float* sums) {
  // The vectors of 32 dimensions share a scale; head_dim_padded is a multiple of 32.
  constexpr int kAtOnce = 32 / P < kVectors ? 32 / P : kVectors;
  const std::uint8_t* values = page + a.layout.values;
  const int stride = a.layout.head_dim_padded, blocks = stride / 32;
  for (int d = 0; d < stride; d += kAtOnce * P) {
    F total[kQ][kAtOnce];
    for (int q = 0; q < kQ; ++q)
      for (int v = 0; v < kAtOnce; ++v) total[q][v] = V::load(sums + q * stride + d + v * P);
    for (int i = first; i < last; ++i) {
      F value[kAtOnce];
      for (int v = 0; v < kAtOnce; ++v)
        value[v] = load_kv<kType>(values, static_cast<std::int64_t>(i) * stride + d + v * P);
      float scale = 1;
      if constexpr (kType == KvType::kQ8_0)
        scale = V::half_at(page + a.layout.value_scales + 2 * (i * blocks + d / 32));
      for (int q = 0; q < kQ; ++q) {
        const F weight = V::set1(kType == KvType::kQ8_0 ? weights[q * 64 + i] * scale : weights[q * 64 + i]);
        for (int v = 0; v < kAtOnce; ++v) total[q][v] = V::fma(weight, value[v], total[q][v]);
      }
    }
    for (int q = 0; q < kQ; ++q)
      for (int v = 0; v < kAtOnce; ++v) V::store(sums + q * stride + d + v * P, total[q][v]);
  }
}

inline float tanh_of(float x) {
  float buffer[P];
  V::store(buffer, exp_f(V::set1(2 * x)));
  return 1 - 2 / (buffer[0] + 1);
}
inline float exp_of(float x) {
  float buffer[P];
  V::store(buffer, exp_f(V::set1(x)));
  return buffer[0];
}

constexpr float kMasked = -1e30f;

/// One query's softmax so far: the largest score, the sum of exponentials relative to it.
struct Softmax {
  float top, mass;
  std::int64_t oldest;
};

/// Turns a page's scores into weights relative to the largest score so far, and rescales what was summed before.
inline void weigh_page(const AttendArgs& a, const AttendQuery& query, std::int64_t page, Softmax& state, float* scores,
                       float* sums) {
  const auto first = state.oldest - page * 64, last = query.position + 1 - page * 64;
  if (first > 0 || last < 64 || a.softcap > 0)
    for (int i = 0; i < 64; ++i) {
      if (i < first || i >= last)
        scores[i] = kMasked;
      else if (a.softcap > 0)
        scores[i] = a.softcap * tanh_of(scores[i] / a.softcap);
    }
  F highest = V::set1(kMasked);
  for (int i = 0; i < 64; i += P) highest = V::max(highest, V::load(scores + i));
  const float page_top = V::maximum(highest), new_top = page_top > state.top ? page_top : state.top;
  F total = V::zero();
  for (int i = 0; i < 64; i += P) {
    const F e = exp_f(V::sub(V::load(scores + i), V::set1(new_top)));
    V::store(scores + i, e);
    total = V::add(total, e);
  }
  const float keep = new_top == state.top ? 1.0f : exp_of(state.top - new_top);
  state.mass = state.mass * keep + V::sum(total);
  if (keep != 1.0f)
    for (int d = 0; d < a.layout.head_dim_padded; d += P) V::store(sums + d, V::mul(V::load(sums + d), V::set1(keep)));
  state.top = new_top;
}

/// kQ queries over one page. A query that has nothing in the page keeps its state: its weights are zeros.
template<KvType kType, int kQ>
inline void attend_page(const AttendArgs& a, const AttendQuery* queries, std::int64_t page, Softmax* states,
                        float* sums) {
  alignas(64) float scores[kQ * 64];
  page_scores<kType, kQ>(a, queries, a.pages[page], scores);
  std::int64_t first = 64, last = 0;
  for (int q = 0; q < kQ; ++q) {
    const std::int64_t from = states[q].oldest - page * 64, to = queries[q].position + 1 - page * 64;
    if (from >= 64 || to <= 0) {
      for (int i = 0; i < 64; ++i) scores[q * 64 + i] = 0;
      continue;
    }
    first = min64(first, from > 0 ? from : 0);
    last = to > last ? to : last;
    weigh_page(a, queries[q], page, states[q], scores + q * 64, sums + q * a.layout.head_dim_padded);
  }
  page_values<kType, kQ>(a, a.pages[page], scores, static_cast<int>(first), static_cast<int>(min64(last, 64)), sums);
}

template<KvType kType>
inline void attend_pages(const AttendArgs& a) {
  constexpr int kTile = V::kQueryTile;
  alignas(64) float sums[kAttendFloats] = {};
  Softmax states[kAttendQueriesMax];
  const int stride = a.layout.head_dim_padded;
  std::int64_t oldest = a.queries[0].position, newest = 0;
  for (int q = 0; q < a.count; ++q) {
    const std::int64_t position = a.queries[q].position;
    states[q] = {a.has_sink ? a.queries[q].sink : kMasked, a.has_sink ? 1.0f : 0.0f,
                 a.window > 0 && position + 1 > a.window ? position + 1 - a.window : 0};
    oldest = min64(oldest, states[q].oldest);
    newest = position > newest ? position : newest;
  }
  for (std::int64_t page = oldest / 64; page <= newest / 64; ++page) {
    int q = 0;
    for (; q + kTile <= a.count; q += kTile)
      attend_page<kType, kTile>(a, a.queries + q, page, states + q, sums + q * stride);
    for (; q + 2 <= a.count; q += 2) attend_page<kType, 2>(a, a.queries + q, page, states + q, sums + q * stride);
    if (q < a.count) attend_page<kType, 1>(a, a.queries + q, page, states + q, sums + q * stride);
  }
  for (int q = 0; q < a.count; ++q) {
    const float inverse = 1 / states[q].mass;
    for (int d = 0; d < a.layout.head_dim; ++d) a.queries[q].out[d] = sums[q * stride + d] * inverse;
  }
}

void attend(const AttendArgs& a) {
  switch (a.layout.type) {
    case KvType::kF32: return attend_pages<KvType::kF32>(a);
    case KvType::kF16: return attend_pages<KvType::kF16>(a);
    case KvType::kQ8_0: return attend_pages<KvType::kQ8_0>(a);
  }
}

/// Codes and scale of 32 values (fewer at the end of a head).
inline float quantize_kv(const float* x, int n, std::int8_t* codes) {
  float top = 0;
  for (int i = 0; i < n; ++i) top = __builtin_fabsf(x[i]) > top ? __builtin_fabsf(x[i]) : top;
  std::uint8_t stored[2];
  V::store_half_at(stored, top / 127);
  const float scale = V::half_at(stored), inverse = scale > 0 ? 1 / scale : 0;
  for (int i = 0; i < n; ++i) {
    const float q = __builtin_rintf(x[i] * inverse);
    codes[i] = static_cast<std::int8_t>(q > 127 ? 127 : q < -127 ? -127 : q);
  }
  return scale;
}

void kv_write(const KvLayout& l, std::uint8_t* page, int slot, const float* key, const float* value) {
  std::uint8_t* values = page + l.values;
  const int stride = l.head_dim_padded, blocks = stride / 32;
  if (l.type == KvType::kQ8_0) {
    for (int b = 0; b * 32 < l.head_dim; ++b) {
      const int n = l.head_dim - b * 32 < 32 ? l.head_dim - b * 32 : 32;
      std::int8_t codes[32];
      V::store_half_at(page + l.key_scales + 2 * (b * 64 + slot), quantize_kv(key + b * 32, n, codes));
      for (int i = 0; i < n; ++i) page[(b * 32 + i) * 64 + slot] = static_cast<std::uint8_t>(codes[i]);
      V::store_half_at(page + l.value_scales + 2 * (slot * blocks + b), quantize_kv(value + b * 32, n, codes));
      for (int i = 0; i < n; ++i) values[slot * stride + b * 32 + i] = static_cast<std::uint8_t>(codes[i]);
    }
    return;
  }
  for (int d = 0; d < l.head_dim; ++d) {
    if (l.type == KvType::kF32) {
      reinterpret_cast<float*>(page)[d * 64 + slot] = key[d];
      reinterpret_cast<float*>(values)[slot * stride + d] = value[d];
    } else {
      V::store_half_at(page + 2 * (d * 64 + slot), key[d]);
      V::store_half_at(values + 2 * (slot * stride + d), value[d]);
    }
  }
}

// ------------------------------------------------------------------------------------------------------------------
// rooflines

/// Keeps a vector in a register, and its value unknown to the compiler.
template<class T>
inline void hide(T& v) {
#if defined(__x86_64__)
  if constexpr (sizeof(T) <= 64 && !V::kEmulated)
    asm volatile("" : "+v"(v));
  else
    asm volatile("" : "+m"(v));
#else
  asm volatile("" : "+w"(v));
#endif
}

constexpr int kChains = 12;  // independent sums: more than latency times throughput

double peak_int8(std::int64_t rounds) {
  const std::uint8_t ones[4 * P] = {1, 1, 1};
  B a = V::bytes(ones), b = V::bytes(ones);
  I sums[kChains];
  for (I& s : sums) s = V::set1i(0);
  for (std::int64_t i = 0; i < rounds; ++i) {
    hide(a), hide(b);
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = V::dot(sums[c], a, b);
  }
  for (I& s : sums) hide(s);
  return 2.0 * 4 * P * kChains * static_cast<double>(rounds);
}

double peak_fp32(std::int64_t rounds) {
  F a = V::set1(0.5f), b = V::set1(0.25f), sums[kChains];
  for (F& s : sums) s = V::zero();
  for (std::int64_t i = 0; i < rounds; ++i) {
    hide(a), hide(b);
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = V::fma(a, b, sums[c]);
  }
  for (F& s : sums) hide(s);
  return 2.0 * P * kChains * static_cast<double>(rounds);
}

std::uint32_t read(const std::uint8_t* p, std::int64_t bytes, int streams, bool ahead) {
  const std::int64_t part = bytes / streams / 256 * 256;
  I sums[4];
  for (I& s : sums) s = V::set1i(0);
  for (std::int64_t at = 0; at < part; at += 256)
    for (int s = 0; s < streams; ++s) {
      if (ahead)
        for (int i = 0; i < 256; i += 64) __builtin_prefetch(p + s * part + at + kAhead + i);
      for (int i = 0; i < 256; i += 4 * P) {
        I& sum = sums[i / (4 * P) % 4];
        sum = V::dot(sum, V::bytes(p + s * part + at + i), V::bytes(p + s * part + at + i));
      }
    }
  float buffer[P];
  std::uint32_t out = 0;
  for (const I& s : sums) {
    V::store(buffer, V::to_float(s));
    out += static_cast<std::uint32_t>(buffer[0]);
  }
  return out;
}

constexpr Kernels make_table() {
  Kernels k{};
  k.name = V::kName;
  k.panel = P;
  k.tiles_from = std::int64_t{1} << 62;
  k.linear[static_cast<int>(DType::kF32)] = linear_plain<PlainF32>;
  k.linear[static_cast<int>(DType::kF16)] = linear_plain<PlainF16>;
  k.linear[static_cast<int>(DType::kBF16)] = linear_plain<PlainBF16>;
#define LLORCH_PANEL(format) k.linear[static_cast<int>(format.type)] = linear_quantized<format>;
#include "panel_table.inc"
#undef LLORCH_PANEL
  k.quantize_row = quantize_row;
  k.rms_norm = rms_norm;
  k.layer_norm = layer_norm;
  k.add = add;
  k.add_scaled = add_scaled;
  k.silu_mul = silu_mul;
  k.swiglu_clamped = swiglu_clamped;
  k.gelu = gelu;
  k.rope = rope;
  k.kv_write = kv_write;
  k.attend = attend;
  k.peak_int8 = peak_int8;
  k.peak_fp32 = peak_fp32;
  k.read = read;
  return k;
}

}  // namespace
}  // namespace llorch::kernel

#define LLORCH_DEFINE_KERNELS(name)                 \
  namespace llorch::kernel {                        \
  const Kernels& kernels_##name() {                 \
    static constexpr Kernels kTable = make_table(); \
    return kTable;                                  \
  }                                                 \
  }
