// Block formats times few rows: a panel's codes are unpacked into registers for each tile of rows. A part of body.h.
#pragma once

namespace llorch::kernel {
namespace {

/// The scales of one block of a panel, resolved per sub-block.
template<const PanelFormat& kF>
struct BlockScales {
  static constexpr bool kHasMinimum =
      kF.scales == Scales::kHalfMin || kF.scales == Scales::kSuperNibble || kF.scales == Scales::kSuperPair;
  /// Formats of 256 columns have whole scales under d. Where activations have one scale for all of them, their products
  /// are summed as whole numbers over the block; elsewhere, where they have two in 32 columns, over these, which is
  /// exact in floats too: below 2^24.
  static constexpr bool kWhole = kF.block == 256 && V::kScaleColumns == 256;
  static constexpr bool kParts = kF.block == 256 && kF.sub == 16 && !kWhole;
  /// Whole minimums are summed over the block, with sums of activations that are whole numbers for this.
  static constexpr bool kWholeMinimums = kF.block == 256 && kHasMinimum && !kWhole;
  /// What codes are off zero is summed in pairs of sub-blocks.
  static constexpr bool kZeroPairs =
      kF.zero != 0 && kF.sub == 16 && ((kWhole && V::kDotPairs) || (kParts && V::kDotJoined));
  static constexpr bool kTwoScales = kF.scales == Scales::kTwoHalves;
  static constexpr int kSubs = 32 / kF.sub, kMinimumPairs = 128 / kF.sub;
  const std::uint8_t* at;
  F d, m;  // m: of minimums; where there are two scales, the second

  BlockScales() = default;
  explicit BlockScales(const std::uint8_t* block) : at(block), d(V::zero()), m(V::zero()) {
    if constexpr (kF.scales == Scales::kE8M0)
      d = V::load_e8m0_halved(block);
    else
      d = V::load_half(block);
    if constexpr (kHasMinimum || kTwoScales) m = V::load_half(block + 2 * P);
    if constexpr (kF.unit != 1) d = V::mul(d, V::set1(kF.unit));
    if constexpr (kF.unit != 1 && kTwoScales) m = V::mul(m, V::set1(kF.unit));
    if constexpr (kF.scales == Scales::kSuper || kF.scales == Scales::kSuperSigned) at += 2 * P;
    if constexpr (kF.scales == Scales::kSuperNibble || kF.scales == Scales::kSuperPair) at += 4 * P;
  }
  /// The whole scales of sub-blocks 2 i and 2 i + 1 of 16 columns, as two int16 in each lane.
  I scale_pairs(int i) const {
    if constexpr (kF.scales == Scales::kSuper)
      return V::pairs_i8(at + 2 * i * P);
    else
      return V::pairs_low_nibble(at + 2 * i * P);
  }
  /// Of sub-block s, where scales are whole.
  I whole_scale(int s) const {
    if constexpr (kF.scales == Scales::kSuperPair)
      return V::ints_u8(at + s * P);
    else if constexpr (kF.scales == Scales::kSuperSigned)
      return V::ints_i8(at + s * P);
    else if constexpr (kF.scales == Scales::kHalf)
      return V::set1i(1);
    else
      return one_of_pairs(scale_pairs(s / 2), s % 2);
  }
  static I one_of_pairs(I pairs, int which) {
    if (which == 1) return V::high_of_pairs(pairs);
    return kF.scales == Scales::kSuper ? V::low_of_pairs(pairs) : V::low_unsigned(pairs);
  }
  /// What the products of sub-block s are multiplied by, but for kWhole: with kParts the whole scale, as a float or
  /// where they are joined in int16 as two of these, without it the scale.
  auto factor(int s) const {
    if constexpr (kTwoScales)
      return s == 0 ? d : m;
    else if constexpr (kF.block == 32)
      return d;
    else if constexpr (!kParts)
      return V::mul(d, V::to_float(whole_scale(s)));
    else if constexpr (V::kDotJoined)
      return joined_factor<V>(s);
    else
      return V::to_float(whole_scale(s));
  }
  template<class Vec>
  I joined_factor(int s) const {
    return s % 2 == 0 ? Vec::low_twice(scale_pairs(s / 2)) : Vec::high_twice(scale_pairs(s / 2));
  }
  /// What the sums of the codes of columns 32 s.. are multiplied by, where kZeroPairs.
  I zero_factors(int s) const { return zero_factors<V>(s); }
  template<class Vec>
  I zero_factors(int s) const {
    return Vec::mul_pairs(scale_pairs(s), -kF.zero);
  }
  /// The whole minimums of sub-blocks 2 i and 2 i + 1, as two int16 in each lane.
  I minimum_pairs(int i) const {
    if constexpr (kF.scales == Scales::kSuperNibble)
      return V::pairs_high_nibble(at + 2 * i * P);
    else
      return V::pairs_u8(at + (8 + 2 * i) * P);
  }
  /// Of sub-block s.
  F minimum(int s) const {
    if constexpr (kF.block == 256)
      return V::mul(m, V::to_float(one_of_pairs(minimum_pairs(s / 2), s % 2)));
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
        codes[4 * i + j] = kF.nibbles ? V::or_field(codes[4 * i + j], four, 4 - 2 * j, 0x30) : V::pair(four, j);
      }
    }
    at += 2 * kVector;
  }
  if constexpr (kF.bits) {
    constexpr int kTo = kF.nibbles ? 4 : 2;
    const B eight = V::bytes(at);
    for (int g = 0; g < 8; ++g) codes[g] = V::or_field(codes[g], eight, kTo - g, 1 << kTo);
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
  /// What the products of a sub-block are added to, so that its codes are taken as signed; where kZeroPairs does not do
  /// that apart.
  I start(int r, std::int64_t c, int h) const {
    return V::set1i(kSigned || BlockScales<kF>::kZeroPairs ? 0 : -kF.zero * total(r, c, h));
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
    if constexpr (V::kDotJoined && !kF.wide) return dot_joined<V>(sum, r, c, h, w, V::set1i(0x10001));
    for (int g = h * kF.sub / 4; g < (h + 1) * kF.sub / 4; ++g) sum = dot4(sum, w[g], four(r, c, g));
    return sum;
  }
  /// For the ISA that has it; times `factor`, two int16 in each lane.
  template<class Vec>
  I dot_joined(I sum, int r, std::int64_t c, int h, const B* w, I factor) const {
    constexpr int kGroups = kF.sub / 4, kTogether = joined_vectors(kF) < kGroups ? joined_vectors(kF) : kGroups;
#pragma GCC unroll 8
    for (int g = h * kGroups; g < (h + 1) * kGroups; g += kTogether) {
      B pairs = Vec::pair_products(w[g], four(r, c, g));
#pragma GCC unroll 8
      for (int i = 1; i < kTogether; ++i)
        pairs = Vec::add_pair_products(pairs, Vec::pair_products(w[g + i], four(r, c, g + i)));
      sum = Vec::add_joined(sum, pairs, factor);
    }
    return sum;
  }
};

/// The products of sub-blocks up to the h-th of 32 columns, times their whole scales: exact, being below 2^24.
template<class Float>
inline Float part_of(I dot, int h, Float scale, Float before) {
  return h == 0 ? V::mul(V::to_float(dot), scale) : V::fma(V::to_float(dot), scale, before);
}

/// What one block of a panel adds to the sums of kRows rows.
template<const PanelFormat& kF, int kRows>
struct BlockSums {
  using Scale = BlockScales<kF>;
  I whole[kRows];  // where products are summed as whole numbers over the block
  F parts[kRows];  // where they are over 32 columns: those of the block, without its d
  BlockSums() {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      if constexpr (Scale::kWhole) whole[r] = V::set1i(0);
      if constexpr (Scale::kParts) parts[r] = V::zero();
    }
  }
  /// Adds the products of row r with sub-block h of columns 32 s.. of the block, which are the row's columns 32 c..
  template<bool kMinimums, class Factors>
  void add(const Scale& block, const CodeRows<kF, kRows>& x, int r, std::int64_t b, std::int64_t c, int s, int h, I dot,
           const Factors& factors, F* sums) {
    const int sub = Scale::kSubs * s + h;
    const float x_scale = x.scales[r][Scale::kWhole ? b : c];
    if constexpr (Scale::kWhole)
      whole[r] = V::add_ints(whole[r], V::mul_ints(dot, block.whole_scale(sub)));
    else
      sums[r] = V::fma(V::mul(V::to_float(dot), V::set1(x_scale)), scale_of(block, sub, factors), sums[r]);
    if constexpr (kMinimums && !Scale::kWholeMinimums)
      sums[r] = V::fma(V::set1(-x_scale * static_cast<float>(x.total(r, c, h))), block.minimum(sub), sums[r]);
  }
  /// Of sub-block `sub`, not for kWhole and kParts.
  template<class Factors>
  static F scale_of(const Scale& block, int sub, const Factors& factors) {
    if constexpr (kF.block == 32)
      return block.factor(sub);
    else
      return factors.factor(sub);
  }
  /// Columns 32 s.. of the block, which are the row's columns 32 c..; codes(g): those of columns 4 g.. of them;
  /// `factors`: the block, or what of it is unpacked. Four columns at a time, a vector of codes meets all rows, so that
  /// no sum waits for its last product and no code is loaded twice; but where products are joined in int16 on their way
  /// (AVX2's narrow codes), row after row is faster.
  template<bool kMinimums, class Codes, class Factors>
  void add_columns(const Scale& block, const CodeRows<kF, kRows>& x, std::int64_t b, std::int64_t c, int s,
                   const Codes& codes, const Factors& factors, F* sums) {
    if constexpr (Scale::kWhole && Scale::kZeroPairs)
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) whole[r] = V::dot_pairs(whole[r], block.zero_factors(s), x.totals(r, c));
    if constexpr (Scale::kParts && V::kDotJoined)
      add_joined<V>(x, c, s, codes, factors);
    else
      add_apart<kMinimums>(block, x, b, c, s, codes, factors, sums);
  }
  template<bool kMinimums, class Codes, class Factors>
  void add_apart(const Scale& block, const CodeRows<kF, kRows>& x, std::int64_t b, std::int64_t c, int s,
                 const Codes& codes, const Factors& factors, F* sums) {
    F part[kRows];
#pragma GCC unroll 2
    for (int h = 0; h < Scale::kSubs; ++h) {
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
        for (int r = 0; r < kRows; ++r) {
          if constexpr (Scale::kParts)
            add_part(x, r, c, h, dots[r], factors.factor(2 * s + h), part[r]);
          else
            add<kMinimums>(block, x, r, b, c, s, h, dots[r], factors, sums);
        }
      } else {
        B w[8];
        for (int g = 0; g < 8; ++g) w[g] = codes(g);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          if constexpr (Scale::kParts)
            add_part(x, r, c, h, x.dot(r, c, h, w), factors.factor(2 * s + h), part[r]);
          else
            add<kMinimums>(block, x, r, b, c, s, h, x.dot(r, c, h, w), factors, sums);
        }
      }
    }
  }
  /// One of two sub-blocks of 32 columns; `part` keeps the first.
  template<class Float>
  void add_part(const CodeRows<kF, kRows>& x, int r, std::int64_t c, int h, I dot, Float factor, Float& part) {
    part = part_of(dot, h, factor, part);
    if (h == 1) parts[r] = V::fma(part, V::set1(x.scales[r][c]), parts[r]);
  }
  /// Where products are joined.
  template<class Vec, class Codes, class Factors>
  void add_joined(const CodeRows<kF, kRows>& x, std::int64_t c, int s, const Codes& codes, const Factors& factors) {
    I part[kRows];
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      B w[8];
      for (int g = 4 * h; g < 4 * h + 4; ++g) w[g] = codes(g);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        if (h == 0) part[r] = V::set1i(0);
        if constexpr (Scale::kZeroPairs)
          if (h == 0) part[r] = V::dot_pairs(part[r], factors.zero_factors(s), x.totals(r, c));
        part[r] = x.template dot_joined<Vec>(part[r], r, c, h, w, factors.factor(2 * s + h));
        if (h == 1) parts[r] = V::fma(V::to_float(part[r]), V::set1(x.scales[r][c]), parts[r]);
      }
    }
  }
  template<bool kMinimums, class Factors>
  void finish(const Scale& block, const CodeRows<kF, kRows>& x, std::int64_t b, const Factors& factors, F* sums) const {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      if constexpr (Scale::kWhole)
        sums[r] = V::fma(V::mul(V::to_float(whole[r]), V::set1(x.scales[r][b])), block.d, sums[r]);
      if constexpr (Scale::kParts) sums[r] = V::fma(parts[r], block.d, sums[r]);
    }
    if constexpr (kMinimums && Scale::kWholeMinimums) {
      I below[kRows];
      for (int r = 0; r < kRows; ++r) below[r] = V::set1i(0);
#pragma GCC unroll 8
      for (int i = 0; i < Scale::kMinimumPairs; ++i) {
        const I pairs = factors.minimum_pairs(i);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) below[r] = V::dot_pairs(below[r], pairs, x.minimum_totals(r, b, i));
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
        sums[r] = V::fma(V::mul(V::to_float(below[r]), V::set1(x.minimum_scales[r][b])), block.m, sums[r]);
    }
  }
};

/// Sums that a block adds to at its end wait in memory: the registers are for what it adds.
inline void keep_in_memory(F* sums) { asm volatile("" : : "r"(sums) : "memory"); }

constexpr std::int64_t kAhead = 4096;  // bytes between what is multiplied and what is asked for

/// What is asked for while `at` is multiplied: behind the last panel, what comes next.
inline const std::uint8_t* ahead_of(const LinearArgs& a, const std::uint8_t* at) {
  const std::int64_t behind = at + kAhead - (a.panels + a.last_panel * a.panel_bytes);
  return behind >= 0 && a.next ? a.next + behind : at + kAhead;
}

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
    const std::uint8_t *plane = panel + P * scale_bytes_per_row(kF), *ahead = ahead_of(a, panel);
    BlockSums<kF, kRows> added;
    for (int s = 0; s < kF.block / 32; ++s, ++c, plane += kPlane) {
      // Evenly, because the buffers that wait for memory are few. Later rows find the panel in the cache.
      if (row == 0)
        for (int i = 0; i < kBlockBytes / (kF.block / 32); i += 64)
          __builtin_prefetch(ahead + s * (kBlockBytes / (kF.block / 32)) + i, 0, 2);
      B w[8];
      unpack<kF>(plane, w);
      added.template add_columns<kMinimums>(
          block, x, b, c, s, [&](int g) { return w[g]; }, block, sums);
    }
    added.template finish<kMinimums>(block, x, b, block, sums);
    after_block(b);
  }
}

}  // namespace
}  // namespace llorch::kernel
