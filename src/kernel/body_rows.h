// Block formats times many rows. A part of body.h.
//
// Panels are unpacked once, so many columns at a time that their codes stay in the first cache (two panels: the second)
// while all rows pass by; a sum waits in the output for its next columns, so that its additions keep the order of
// panel_block(). Meanwhile the next columns are asked for.
#pragma once

namespace llorch::kernel {
namespace {

template<const PanelFormat& kF>
inline void unpack_columns(const std::uint8_t* panel, std::int64_t first, std::int64_t last, std::uint8_t* to) {
  panel += first * block_bytes(kF, P);
  for (std::int64_t b = first; b < last; ++b, panel += block_bytes(kF, P)) {
    const std::uint8_t* plane = panel + P * scale_bytes_per_row(kF);
    for (int s = 0; s < kF.block / 32; ++s, plane += plane_vectors(kF) * 4 * P) {
      B w[8];
      unpack<kF>(plane, w);
      for (int g = 0; g < 8; ++g, to += 4 * P) V::store_bytes(to, w[g]);
    }
  }
}

/// What of a block's scales is unpacked too: BlockScales' whole numbers, as panels are multiplied by them.
template<const PanelFormat& kF>
struct UnpackedScales {
  using Scale = BlockScales<kF>;
  static constexpr int kFactors = kF.block == 256 && !Scale::kWhole ? kF.block / kF.sub : 0;
  static constexpr int kZeros = Scale::kParts && Scale::kZeroPairs ? kF.block / 32 : 0;
  static constexpr int kMinimums = Scale::kWholeMinimums ? Scale::kMinimumPairs : 0;
  static constexpr int kBytes = (kFactors + kZeros + kMinimums) * 4 * P;  // of a block
  const std::uint8_t* at;

  auto factor(int s) const {
    if constexpr (Scale::kParts && V::kDotJoined)
      return vector(s);
    else
      return __builtin_bit_cast(F, vector(s));
  }
  I zero_factors(int s) const { return vector(kFactors + s); }
  I minimum_pairs(int i) const { return vector(kFactors + kZeros + i); }

  static void unpack(const std::uint8_t* panel, std::int64_t first, std::int64_t last, std::uint8_t* to) {
    const auto put = [&](auto vector) { V::store_bytes(to, __builtin_bit_cast(B, vector)), to += 4 * P; };
    for (std::int64_t b = first; b < last && kBytes > 0; ++b) {
      const Scale block(panel + b * block_bytes(kF, P));
      if constexpr (kFactors > 0)
        for (int s = 0; s < kFactors; ++s) put(block.factor(s));
      if constexpr (kZeros > 0)
        for (int s = 0; s < kZeros; ++s) put(block.zero_factors(s));
      if constexpr (kMinimums > 0)
        for (int i = 0; i < kMinimums; ++i) put(block.minimum_pairs(i));
    }
  }

 private:
  I vector(int i) const { return __builtin_bit_cast(I, V::bytes(at + i * 4 * P)); }
};

/// One panel times kRows rows, blocks `first` to `last`, whose codes are unpacked: sums[r] go on from what they hold.
template<const PanelFormat& kF, int kRows>
inline void add_blocks(const LinearArgs& a, const std::uint8_t* panel, std::int64_t first, std::int64_t last,
                       const std::uint8_t* codes, UnpackedScales<kF> scales, std::int64_t row, F* sums) {
  constexpr bool kMinimums = BlockScales<kF>::kHasMinimum;
  const CodeRows<kF, kRows> x(a.quantized, row);
  std::int64_t c = first * (kF.block / 32);  // 32 columns each
  for (std::int64_t b = first; b < last; ++b, scales.at += UnpackedScales<kF>::kBytes) {
    const BlockScales<kF> block(panel + b * block_bytes(kF, P));
    if constexpr (BlockScales<kF>::kParts) keep_in_memory(sums);
    BlockSums<kF, kRows> added;
    for (int s = 0; s < kF.block / 32; ++s, ++c, codes += 32 * P) {
      added.template add_columns<kMinimums>(
          block, x, b, c, s, [&](int g) { return V::bytes(codes + g * 4 * P); }, scales, sums);
    }
    added.template finish<kMinimums>(block, x, b, scales, sums);
  }
}

/// Asks for the next columns of some panels while those before are multiplied, evenly.
template<int kPanels>
struct Ahead {
  const std::uint8_t* at[kPanels];
  const std::uint8_t* last;  // of at[0]
  std::int64_t lines;        // a step
  void step() {
    if (at[0] >= last) return;
    for (int p = 0; p < kPanels; ++p) {
      for (std::int64_t i = 0; i < lines; ++i) __builtin_prefetch(at[p] + 64 * i, 0, 2);
      at[p] += 64 * lines;
    }
  }
};

/// kPanels panels times kRows rows, in registers: every load of activations meets kPanels vectors of codes. What a
/// block adds is gathered one kind after the other (products, minimums), because there are registers for one kind of
/// sums.
template<const PanelFormat& kF, int kRows, int kPanels>
struct RowTile {
  using Scale = BlockScales<kF>;
  static constexpr int kSubs = 32 / kF.sub, kSteps = kF.block / 32;
  CodeRows<kF, kRows> x;
  const std::uint8_t* codes[kPanels];
  UnpackedScales<kF> scales[kPanels];
  F (*sums)[kRows];

  [[gnu::always_inline]] void add_block(const std::uint8_t* const* data, std::int64_t b, Ahead<kPanels>& ahead) {
    const std::int64_t first = b * kSteps;
    // Where only a block's end needs them, they are read there: until then the registers are for sums.
    constexpr bool kAtEnd = kF.block == 256 && !Scale::kWhole;
    Scale block[kPanels];
    const auto read_scales = [&] {
      for (int p = 0; p < kPanels; ++p) block[p] = Scale(data[p] + b * block_bytes(kF, P));
    };
    if constexpr (!kAtEnd) read_scales();
    ahead.step();
    I whole[kPanels][kRows];
    F parts[kPanels][kRows];
    if constexpr (Scale::kWhole) clear(whole);
    if constexpr (Scale::kParts) {
      keep_in_memory(sums[0]);
      each([&](int p, int r) { parts[p][r] = V::zero(); });
    }
    for (int s = 0; s < kSteps; ++s) {
      const std::int64_t c = first + s;
      F part[kPanels][kRows];
#pragma GCC unroll 2
      for (int h = 0; h < kSubs; ++h) {
        I dots[kPanels][kRows];
        multiply(dots, c, h);
        each([&](int p, int r) {
          if constexpr (Scale::kParts && !V::kDotJoined) {
            part[p][r] = part_of(dots[p][r], h, scales[p].factor(2 * s + h), part[p][r]);
            if (h == 1) parts[p][r] = V::fma(part[p][r], V::set1(x.scales[r][c]), parts[p][r]);
          } else if constexpr (Scale::kWhole) {
            whole[p][r] = V::add_ints(whole[p][r], V::mul_ints(dots[p][r], block[p].whole_scale(kSubs * s + h)));
          } else {
            sums[p][r] = V::fma(V::mul(V::to_float(dots[p][r]), V::set1(x.scales[r][c])),
                                factor(block, p, kSubs * s + h), sums[p][r]);
          }
        });
        if constexpr (Scale::kHasMinimum && !Scale::kWholeMinimums)
          each([&](int p, int r) {
            const float scale = -x.scales[r][Scale::kWhole ? b : c] * static_cast<float>(x.total(r, c, h));
            sums[p][r] = V::fma(V::set1(scale), block[p].minimum(kSubs * s + h), sums[p][r]);
          });
      }
    }
    if constexpr (kAtEnd) read_scales();
    if constexpr (Scale::kWhole && Scale::kZeroPairs)
      for (int s = 0; s < kSteps; ++s)
        each([&](int p, int r) {
          whole[p][r] = V::dot_pairs(whole[p][r], block[p].zero_factors(s), x.totals(r, first + s));
        });
    if constexpr (Scale::kWhole)
      each([&](int p, int r) {
        sums[p][r] = V::fma(V::mul(V::to_float(whole[p][r]), V::set1(x.scales[r][b])), block[p].d, sums[p][r]);
      });
    if constexpr (Scale::kParts) each([&](int p, int r) { sums[p][r] = V::fma(parts[p][r], block[p].d, sums[p][r]); });
    if constexpr (Scale::kWholeMinimums) {
      clear(whole);
      for (int i = 0; i < Scale::kMinimumPairs; ++i) {
        I pairs[kPanels];
        for (int p = 0; p < kPanels; ++p) pairs[p] = scales[p].minimum_pairs(i);
        each([&](int p, int r) { whole[p][r] = V::dot_pairs(whole[p][r], pairs[p], x.minimum_totals(r, b, i)); });
      }
      each([&](int p, int r) {
        sums[p][r] = V::fma(V::mul(V::to_float(whole[p][r]), V::set1(x.minimum_scales[r][b])), block[p].m, sums[p][r]);
      });
    }
    for (int p = 0; p < kPanels; ++p) scales[p].at += UnpackedScales<kF>::kBytes;
  }

 private:
  /// Of sub-block s of the block.
  F factor(const Scale* block, int p, int s) const {
    if constexpr (UnpackedScales<kF>::kFactors > 0 && !Scale::kParts)
      return scales[p].factor(s);
    else if constexpr (Scale::kTwoScales)
      return block[p].factor(s);
    else
      return block[p].d;
  }
  template<class Op>
  [[gnu::always_inline]] static void each(const Op& op) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p)
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) op(p, r);
  }
  [[gnu::always_inline]] static void clear(I (*of)[kRows]) {
    each([&](int p, int r) { of[p][r] = V::set1i(0); });
  }
  /// The products of the next kF.sub columns, sub-block h of columns 32 c..
  [[gnu::always_inline]] void multiply(I (*dots)[kRows], std::int64_t c, int h) {
    each([&](int p, int r) { dots[p][r] = x.start(r, c, h); });
#pragma GCC unroll 8
    for (int g = 0; g < kF.sub / 4; ++g) {
      B w[kPanels];
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) w[p] = V::bytes(codes[p] + g * 4 * P);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const B four = x.four(r, c, h * kF.sub / 4 + g);
#pragma GCC unroll 4
        for (int p = 0; p < kPanels; ++p) dots[p][r] = x.dot4(dots[p][r], w[p], four);
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) codes[p] += kF.sub * P;
  }
};

template<const PanelFormat& kF>
class UnpackedPanels {
 public:
  /// From so many rows on; fewer unpack a panel again for every tile of rows.
  static constexpr std::int64_t kFrom = (V::kDotPairs                         ? 2
                                         : UnpackedScales<kF>::kFactors == 16 ? 3
                                                                              : 4) *
                                            V::kRowTile +
                                        1;

  static void run(const LinearArgs& a) {
    UnpackedPanels unpacked;
    std::int64_t panel = a.first_panel;
    for (; panel + kTogether <= a.last_panel; panel += kTogether) unpacked.run_panels<kTogether>(a, panel);
    for (; panel < a.last_panel; ++panel) unpacked.run_panels<1>(a, panel);
  }

 private:
  static constexpr int kTogether = V::kDotPairs ? 2 : 1;
  static constexpr std::int64_t kColumns = (kTogether == 1 ? 32'768 : 65'536) / P / kTogether;
  static_assert(kColumns % 256 == 0);
  static constexpr std::int64_t kScales = kColumns / kF.block * UnpackedScales<kF>::kBytes;

  template<int kPanels>
  void run_panels(const LinearArgs& a, std::int64_t panel) {
    const std::uint8_t* data[kPanels];
    for (int p = 0; p < kPanels; ++p) data[p] = a.panels + (panel + p) * a.panel_bytes;
    for (std::int64_t c = 0; c < a.k; c += kColumns) {
      const std::int64_t first = c / kF.block, last = min64(c + kColumns, a.k) / kF.block;
      for (int p = 0; p < kPanels; ++p) {
        unpack_columns<kF>(data[p], first, last, codes_ + p * kColumns * P);
        UnpackedScales<kF>::unpack(data[p], first, last, scales_ + p * kScales);
      }
      Ahead<kPanels> ahead = after<kPanels>(a, data, first, last);
      for_rows(a.rows, [&]<int kRows>(std::int64_t row) {
        F sums[kPanels][kRows];
        for (int p = 0; p < kPanels; ++p) {
          for (int r = 0; r < kRows; ++r) sums[p][r] = V::zero();
          if (c > 0) read_outputs(a, panel + p, row, sums[p], kRows);
        }
        for (int r = 0; r < kRows && a.rows > 64; ++r)  // their pages are many, and their places in a cache few
          for (int p = 0; p < kPanels; ++p) __builtin_prefetch(a.out + (row + r) * a.out_stride + (panel + p) * P, 1);
        multiply<kPanels, kRows>(a, data, first, last, row, sums, ahead);
        for (int p = 0; p < kPanels; ++p) write_outputs(a, panel + p, row, sums[p], kRows, c + kColumns >= a.k);
      });
    }
  }
  /// The columns behind block `last`, or the panels behind these.
  template<int kPanels>
  static Ahead<kPanels> after(const LinearArgs& a, const std::uint8_t* const* data, std::int64_t first,
                              std::int64_t last) {
    constexpr std::int64_t kBytes = block_bytes(kF, P);
    const bool more = last * kF.block < a.k;
    Ahead<kPanels> ahead;
    for (int p = 0; p < kPanels; ++p) ahead.at[p] = data[p] + (more ? last * kBytes : kPanels * a.panel_bytes);
    ahead.last = ahead.at[0] + (last - first) * kBytes;
    const std::int64_t steps = (last - first) * ((a.rows + V::kRowTile - 1) / V::kRowTile);
    ahead.lines = ((last - first) * kBytes / 64 + steps - 1) / steps;
    return ahead;
  }
  template<int kPanels, int kRows>
  void multiply(const LinearArgs& a, const std::uint8_t* const* data, std::int64_t first, std::int64_t last,
                std::int64_t row, F (*sums)[kRows], Ahead<kPanels>& ahead) const {
    if constexpr (!V::kDotPairs) return add_blocks<kF, kRows>(a, data[0], first, last, codes_, {scales_}, row, sums[0]);
    RowTile<kF, kRows, kPanels> tile{CodeRows<kF, kRows>(a.quantized, row), {}, {}, sums};
    for (int p = 0; p < kPanels; ++p) {
      tile.codes[p] = codes_ + p * kColumns * P;
      tile.scales[p].at = scales_ + p * kScales;
    }
    for (std::int64_t b = first; b < last; ++b) tile.add_block(data, b, ahead);
  }

  alignas(64) std::uint8_t codes_[kTogether * kColumns * P];
  alignas(64) std::uint8_t scales_[kTogether * kScales + 1];
};

}  // namespace
}  // namespace llorch::kernel
