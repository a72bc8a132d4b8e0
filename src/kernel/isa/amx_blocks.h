// Block formats on int8 tiles. A part of amx.cc.
#pragma once

namespace llorch::kernel {
namespace {

/// Sums of 16 codes of 16 rows, one of their int16 pairs, times minus their scales: what minimums are multiplied by.
inline F offsets(const std::int16_t* sums, F x_scales, int half) {
  const I both = _mm512_loadu_si512(sums);
  const I total = half ? _mm512_srai_epi32(both, 16) : _mm512_srai_epi32(_mm512_slli_epi32(both, 16), 16);
  return V::mul(V::sub(V::zero(), x_scales), V::to_float(total));
}

/// Puts 16 factors where they can be broadcast from memory: out of a register that would take the port of the tiles.
inline void spill(float* to, F factors) {
  V::store(to, factors);
  asm volatile("" : : "r"(to) : "memory");
}

template<const PanelFormat& kF>
inline B signed_codes(B codes) {
  return kF.zero ? _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(kF.zero))) : codes;
}

/// Brings one block of weights nearer.
template<const PanelFormat& kF>
inline void ask_for(const std::uint8_t* weights, std::int64_t block) {
  for (int i = 0; i < block_bytes(kF, P); i += 64) __builtin_prefetch(weights + block * block_bytes(kF, P) + i, 0, 2);
}

/// Columns of one panel, unpacked: formats with a scale per 32 columns, or per 16.
template<const PanelFormat& kF>
struct ScaledChunk {
  static constexpr int kColumns = 1024;
  static constexpr bool kPairs = false;
  alignas(64) std::int8_t codes[kColumns * P];
  alignas(64) float scales[kColumns / kF.sub * P];
  static constexpr int kSubs = 32 / kF.sub;

  static void shape(TileShapes& shapes) {
    shapes.set(0, 16, 64), shapes.set(4, 16, kF.sub), shapes.set(6, kF.sub / 4, 64);
  }

  void unpack_from(const std::uint8_t* panel, std::int64_t columns) {
    for (std::int64_t b = 0; b < columns / 32; ++b, panel += block_bytes(kF, P)) {
      const BlockScales<kF> block(panel);
      B w[8];
      unpack<kF>(panel + P * scale_bytes_per_row(kF), w);
      for (int g = 0; g < 8; ++g) _mm512_store_si512(codes + (b * 8 + g) * 64, signed_codes<kF>(w[g]));
      for (int h = 0; h < kSubs; ++h) V::store(scales + (b * kSubs + h) * P, block.factor(h));
    }
  }

  /// Adds to `sums` the products with the first kM rows of a tile, from its column c0 on. `next`: weights that will be
  /// unpacked after these, or null.
  template<int kM>
  void multiply(const QuantizedRows& q, std::int64_t tile, std::int64_t c0, std::int64_t columns,
                const std::uint8_t* next, F* sums) const {
    alignas(64) std::int32_t products[2][16 * P];
    const std::int64_t first = (tile * q.stride + c0) / 32 * kTileRows, steps = columns / kF.sub;
    const std::int8_t* a = q.codes + first * 32;
    const float* x_scales = q.scales + first;
    // The product of step i + 1 is under way while step i is scaled.
    const auto issue = [&](std::int64_t i) {
      _tile_zero(0);
      LLORCH_TILE_LOAD(4, a + i / kSubs * 512 + i % kSubs * kF.sub, 32);
      LLORCH_TILE_LOAD(6, codes + i * 16 * kF.sub, 64);
      _tile_dpbssd(0, 4, 6);
      _tile_stored(0, products[i & 1], 64);
    };
    issue(0);
    for (std::int64_t i = 0; i < steps; ++i) {
      if (i + 1 < steps) issue(i + 1);
      if (next && i % kSubs == 0) ask_for<kF>(next, i / kSubs);
      const std::int32_t* product = products[i & 1];
      const float* x_scale = x_scales + i / kSubs * kTileRows;
      const F scale = V::load(scales + i * P);
#pragma GCC unroll 16
      for (int r = 0; r < kM; ++r)
        sums[r] = V::fma(V::mul(V::to_float(_mm512_load_si512(product + r * P)), V::set1(x_scale[r])), scale, sums[r]);
    }
  }
};

/// The same for formats of 256 columns, whose whole scales are multiplied into the codes: two bytes, one tile each. All
/// columns of a block are summed before anything is scaled.
///
/// Codes of at most five bits and scales of six (Q4_K, Q5_K): the scale's upper and lower three bits, each times the
/// code. Others: 128 times the upper byte of the product and its signed rest. The sums are the same whole numbers.
template<const PanelFormat& kF>
struct WholeChunk {
  static constexpr int kColumns = 1024;
  static constexpr bool kHasMinimum = BlockScales<kF>::kHasMinimum && !kTiledMinimums<kF>;
  static constexpr bool kPairs = !kHasMinimum;                        // tiles of rows by twos
  static constexpr int kParts = kF.type == DType::kQ2_K ? 1 : 2;      // Q2_K: 15 * 3 fits a byte
  static constexpr bool kFactored = kF.scales == Scales::kSuperPair;  // bytes without sign
  static constexpr int kHighShift = kFactored ? 3 : 7;
  static constexpr int kSubs = 256 / kF.sub;
  alignas(64) std::int8_t codes[kParts * kColumns * P];  // [64 columns][part][group of four][row]
  alignas(64) float scales[kColumns / 256 * P];
  alignas(64) float minimums[kHasMinimum ? kColumns / kF.sub * P : P];

  static void shape(TileShapes& shapes) {
    for (int t = 0; t < 8; ++t) shapes.set(t, 16, 64);
  }

  /// Four columns of 16 rows times their rows' scales.
  static void scale_codes(B w, I scale, std::int8_t* to) {
    const I both = _mm512_or_si512(_mm512_and_si512(scale, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32(scale, 16));
    if constexpr (kFactored) {  // no product exceeds a byte: two of them are one multiplication
      _mm512_store_si512(to, _mm512_mullo_epi16(w, _mm512_srli_epi16(both, kHighShift)));
      _mm512_store_si512(to + 1024, _mm512_mullo_epi16(w, _mm512_and_si512(both, _mm512_set1_epi16(7))));
      return;
    }
    if constexpr (kParts == 1) {
      _mm512_store_si512(to, _mm512_mullo_epi16(w, both));
      return;
    }
    const I even = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8), both);
    const I odd = _mm512_mullo_epi16(_mm512_srai_epi16(w, 8), both);
    const auto join = [](I low, I high) {
      return _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaaull, low, _mm512_slli_epi16(high, 8));
    };
    const auto high = [](I v) { return _mm512_srai_epi16(_mm512_add_epi16(v, _mm512_set1_epi16(64)), kHighShift); };
    const I even_high = high(even), odd_high = high(odd);
    _mm512_store_si512(to, join(even_high, odd_high));
    _mm512_store_si512(to + 1024, join(_mm512_sub_epi16(even, _mm512_slli_epi16(even_high, kHighShift)),
                                       _mm512_sub_epi16(odd, _mm512_slli_epi16(odd_high, kHighShift))));
  }

  void unpack_from(const std::uint8_t* panel, std::int64_t columns) {
    constexpr std::int64_t kPlane = plane_vectors(kF) * 4 * P;
    constexpr int kSteps = 32 / kF.sub;
    std::int8_t* to = codes;
    for (std::int64_t b = 0; b < columns / 256; ++b, panel += block_bytes(kF, P)) {
      const BlockScales<kF> block(panel);
      const std::uint8_t* plane = panel + P * scale_bytes_per_row(kF);
      V::store(scales + b * P, block.d);
      for (int s = 0; s < 8; ++s, plane += kPlane) {
        B w[8];
        unpack<kF>(plane, w);
        for (int g = 0; g < 8; ++g)
          scale_codes(signed_codes<kF>(w[g]), block.whole_scale(kSteps * s + g * kSteps / 8),
                      to + s % 2 * 512 + g * 64);
        if (s % 2 == 1) to += kParts * 1024;
      }
      if constexpr (kHasMinimum)
        for (int s = 0; s < kSubs; ++s) V::store(minimums + (b * kSubs + s) * P, block.minimum(s));
    }
  }

  // Tiles 0 and 1 are one tile of rows' sums of the parts, 2 and 3 its neighbour's; 4 and 5 rows, 6 and 7 weights.
#define LLORCH_PRODUCT(sum, rows, weights) \
  if constexpr (kFactored)                 \
    _tile_dpbsud(sum, rows, weights);      \
  else                                     \
    _tile_dpbssd(sum, rows, weights)

  /// Leaves the sums of block i of a tile of rows, and of the next one where kBoth, in products[tile][part].
  template<bool kBoth>
  void multiply_block(const std::int8_t* x, std::int64_t to_next_tile, std::int64_t i,
                      std::int32_t (*products)[2][16 * P]) const {
    const std::int8_t* w = codes + i * kParts * 4096;
    x += i * 4096;
    _tile_zero(0);
    if constexpr (kParts == 2) _tile_zero(1);
    if constexpr (kBoth) _tile_zero(2);
    if constexpr (kBoth && kParts == 2) _tile_zero(3);
    for (int k = 0; k < 4; ++k, x += 1024, w += kParts * 1024) {
      LLORCH_TILE_LOAD(6, w, 64);
      LLORCH_TILE_LOAD(4, x, 64);
      LLORCH_PRODUCT(0, 4, 6);
      if constexpr (kBoth) {
        LLORCH_TILE_LOAD(5, x + to_next_tile, 64);
        LLORCH_PRODUCT(2, 5, 6);
      }
      if constexpr (kParts == 2) {
        LLORCH_TILE_LOAD(7, w + 1024, 64);
        LLORCH_PRODUCT(1, 4, 7);
        if constexpr (kBoth) {
          LLORCH_PRODUCT(3, 5, 7);
        }
      }
    }
    _tile_stored(0, products[0][0], 64);
    if constexpr (kParts == 2) _tile_stored(1, products[0][1], 64);
    if constexpr (kBoth) _tile_stored(2, products[1][0], 64);
    if constexpr (kBoth && kParts == 2) _tile_stored(3, products[1][1], 64);
  }
#undef LLORCH_PRODUCT

  /// Row r's part of a block, scaled, onto its sum.
  static F add_scaled(const std::int32_t (*products)[16 * P], int r, const float* x_scale, F scale, F sum) {
    I whole = _mm512_load_si512(products[0] + r * P);
    if constexpr (kParts == 2)
      whole = V::add_ints(_mm512_slli_epi32(whole, kHighShift), _mm512_load_si512(products[1] + r * P));
    return V::fma(V::mul(V::to_float(whole), V::set1(x_scale[r])), scale, sum);
  }

  /// Adds the products with two tiles of rows to `sums`, 16 floats a row. They share the loads of the weights.
  void multiply_pair(const QuantizedRows& q, std::int64_t tile, std::int64_t c0, std::int64_t columns,
                     float* sums) const {
    alignas(64) std::int32_t products[2][2][2][16 * P];  // [block & 1][tile][part]
    const std::int64_t first = (tile * q.stride + c0) * kTileRows, to_next = q.stride * kTileRows;
    multiply_block<true>(q.codes + first, to_next, 0, products[0]);
    for (std::int64_t i = 0; i < columns / 256; ++i) {
      if (i + 1 < columns / 256) multiply_block<true>(q.codes + first, to_next, i + 1, products[(i + 1) & 1]);
      const F scale = V::load(scales + i * P);
      for (int t = 0; t < 2; ++t) {
        const float* x_scale = q.scales + (first + t * to_next) / 256 + i * kTileRows;
        float* sum = sums + t * kTileRows * P;
#pragma GCC unroll 16
        for (int r = 0; r < kTileRows; ++r)
          V::store(sum + r * P, add_scaled(products[i & 1][t], r, x_scale, scale, V::load(sum + r * P)));
      }
    }
  }

  template<int kM>
  void multiply(const QuantizedRows& q, std::int64_t tile, std::int64_t c0, std::int64_t columns,
                const std::uint8_t* next, F* sums) const {
    alignas(64) std::int32_t products[2][1][2][16 * P];  // [block & 1][tile][part]
    alignas(64) float offset[P];
    const std::int64_t first = (tile * q.stride + c0) * kTileRows, blocks = columns / 256;
    const float* x_scales = q.scales + first / 256;
    const std::int16_t* code_sums = q.sums + first / 16;
    multiply_block<false>(q.codes + first, 0, 0, products[0]);
    for (std::int64_t i = 0; i < blocks; ++i) {
      if (i + 1 < blocks) multiply_block<false>(q.codes + first, 0, i + 1, products[(i + 1) & 1]);
      if (next) ask_for<kF>(next, i);
      const float* x_scale = x_scales + i * kTileRows;
      if constexpr (kHasMinimum) {
        for (int s = 0; s < kSubs; ++s) {
          spill(offset,
                offsets(code_sums + (i * 256 + s * kF.sub) / 32 * 2 * kTileRows, V::load(x_scale), s % (32 / kF.sub)));
          const F minimum = V::load(minimums + (i * kSubs + s) * P);
#pragma GCC unroll 16
          for (int r = 0; r < kM; ++r) sums[r] = V::fma(V::set1(offset[r]), minimum, sums[r]);
        }
      }
      const F scale = V::load(scales + i * P);
#pragma GCC unroll 16
      for (int r = 0; r < kM; ++r) sums[r] = add_scaled(products[i & 1][0], r, x_scale, scale, sums[r]);
    }
  }
};

/// The same for at most eight rows, where multiplying the scales into all codes would cost more than the product: each
/// sub-block's sums are taken times its whole scale. The integers are the same, and so are the bits.
template<const PanelFormat& kF>
struct FewRowsChunk {
  static constexpr int kColumns = 256, kRows = 8, kSubs = 8;
  static constexpr bool kPairs = false;
  alignas(64) std::int8_t codes[kColumns * P];
  alignas(64) std::int32_t whole_scales[kSubs * P];
  F scale;

  static void shape(TileShapes& shapes) {
    for (const int t : {0, 1}) shapes.set(t, kRows, 64);
    shapes.set(4, kRows, 32), shapes.set(6, 8, 64);
  }

  void unpack_from(const std::uint8_t* panel, std::int64_t) {
    constexpr std::int64_t kPlane = plane_vectors(kF) * 4 * P;
    const BlockScales<kF> block(panel);
    const std::uint8_t* plane = panel + P * scale_bytes_per_row(kF);
    scale = block.d;
#pragma GCC unroll 8
    for (int s = 0; s < 8; ++s, plane += kPlane) {
      B w[8];
      unpack<kF>(plane, w);
      for (int g = 0; g < 8; ++g) _mm512_store_si512(codes + s * 512 + g * 64, signed_codes<kF>(w[g]));
    }
    for (int s = 0; s < kSubs; ++s) _mm512_store_si512(whole_scales + s * P, block.whole_scale(s));
  }

  template<int kM>
  void multiply(const QuantizedRows& q, std::int64_t tile, std::int64_t c0, std::int64_t, const std::uint8_t* next,
                F* sums) const {
    static_assert(kM <= kRows);
    alignas(64) std::int32_t products[kSubs][kRows * P];
    const std::int64_t first = (tile * q.stride + c0) * kTileRows;
    const std::int8_t* x = q.codes + first;
    const float* x_scale = q.scales + first / 256;
#pragma GCC unroll 8
    for (int s = 0; s < kSubs; s += 2) {
      const std::int8_t *from = x + s / 2 * 1024, *w = codes + s * 512;
      _tile_zero(0);
      LLORCH_TILE_LOAD(4, from, 64);
      LLORCH_TILE_LOAD(6, w, 64);
      _tile_dpbssd(0, 4, 6);
      _tile_stored(0, products[s], 64);
      _tile_zero(1);
      LLORCH_TILE_LOAD(4, from + 32, 64);
      LLORCH_TILE_LOAD(6, w + 512, 64);
      _tile_dpbssd(1, 4, 6);
      _tile_stored(1, products[s + 1], 64);
    }
    if (next) ask_for<kF>(next, 0);
    I whole[kM];
    for (int r = 0; r < kM; ++r) whole[r] = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (int s = 0; s < kSubs; ++s) {
      const I factor = _mm512_load_si512(whole_scales + s * P);
#pragma GCC unroll 8
      for (int r = 0; r < kM; ++r)
        whole[r] = V::add_ints(whole[r], _mm512_mullo_epi32(_mm512_load_si512(products[s] + r * P), factor));
    }
#pragma GCC unroll 8
    for (int r = 0; r < kM; ++r) sums[r] = V::fma(V::mul(V::to_float(whole[r]), V::set1(x_scale[r])), scale, sums[r]);
  }
};

template<const PanelFormat& kF>
using Chunk = typename Either<kF.block == 256, WholeChunk<kF>, ScaledChunk<kF>>::Type;

/// Where the sums of a tile of rows of one panel lie: in the result, or in a buffer of 16 floats a row.
struct Sums {
  float* at;
  std::int64_t stride;
};

/// Adds to sums in a buffer what minimums take off.
template<const PanelFormat& kF>
inline void add_minimums(const LinearArgs& a, std::int64_t tile, const Minimums<kF>& minimums, float* sums) {
  if constexpr (kTiledMinimums<kF>) {
    alignas(64) float products[kTileRows * P];
    minimums.multiply(minimums.offsets(a.quantized, tile), products);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r)
      V::store(sums + r * P, V::add(V::load(sums + r * P), V::load(products + r * P)));
  }
}

/// One tile of rows of one panel: adds columns c.. to `to`, and after the last of them minimums and bias (n, or null).
template<const PanelFormat& kF, int kM, class Part>
inline void tile_rows(const LinearArgs& a, std::int64_t panel, std::int64_t tile, std::int64_t c, std::int64_t columns,
                      const std::uint8_t* next, const Part& chunk, const Minimums<kF>& minimums, const float* bias,
                      Sums to) {
  const std::int64_t n0 = panel * P, rows = min64(kM, a.rows - tile * kTileRows);
  const __mmask16 lanes = first_lanes(a.n - n0);
  const bool last = c + columns == a.k;
  F sums[kM];
#pragma GCC unroll 16
  for (int r = 0; r < kM; ++r)
    sums[r] = c > 0 && r < rows ? _mm512_maskz_loadu_ps(lanes, to.at + r * to.stride) : V::zero();
  // The next tile's results lie in other pages: far from here unless they are asked for.
  if (to.stride != P && (tile + 1) * kTileRows < a.rows)
    for (int r = 0; r < kTileRows; ++r) __builtin_prefetch(to.at + (kTileRows + r) * to.stride, 1);
  chunk.template multiply<kM>(a.quantized, tile, c, columns, next, sums);
  if constexpr (kTiledMinimums<kF>)
    if (last) {
      alignas(64) float products[kTileRows * P];
      minimums.multiply(minimums.offsets(a.quantized, tile), products);
#pragma GCC unroll 16
      for (int r = 0; r < kM; ++r) sums[r] = V::add(sums[r], V::load(products + r * P));
    }
  const bool add_bias = last && bias;
  const F more = add_bias ? _mm512_maskz_loadu_ps(lanes, bias + n0) : V::zero();
#pragma GCC unroll 16
  for (int r = 0; r < kM; ++r)
    if (r < rows) _mm512_mask_storeu_ps(to.at + r * to.stride, lanes, add_bias ? V::add(sums[r], more) : sums[r]);
}

constexpr std::int64_t kFewTiles = 4;

/// A product of some panels: one chunk of a panel after the other, each times all rows.
template<const PanelFormat& kF, class Part, int kRowsMax>
class PanelProduct {
 public:
  explicit PanelProduct(const LinearArgs& args) : a_(args), tiles_((args.rows + kTileRows - 1) / kTileRows) {
    TileShapes shapes;
    Part::shape(shapes);
    Minimums<kF>::shape(shapes);
    configure(shapes);
  }
  ~PanelProduct() { _tile_release(); }
  PanelProduct(const PanelProduct&) = delete;
  PanelProduct& operator=(const PanelProduct&) = delete;

  void run() {
    if (tiles_ <= kFewTiles)
      few_rows();
    else
      for (std::int64_t t = 0; t < tiles_; t += kGroupTiles)
        for (std::int64_t p = a_.first_panel; p < a_.last_panel; p += kGroup)
          group(p, min64(p + kGroup, a_.last_panel), t, min64(t + kGroupTiles, tiles_));
  }

 private:
  static constexpr std::int64_t kGroup = 8, kGroupTiles = kRowsMax > 8 ? 32 : 1;

  /// The weights are read as they lie, the next ones asked for meanwhile.
  void few_rows() {
    constexpr std::int64_t kStep = kF.block == 256 ? 256 : 512;
    for (std::int64_t panel = a_.first_panel; panel < a_.last_panel; ++panel)
      for (std::int64_t c = 0; c < a_.k; c += kStep) {
        const std::int64_t columns = min64(kStep, a_.k - c);
        const std::uint8_t* here = unpack(panel, c, columns);
        for (std::int64_t t = 0; t < tiles_; ++t)
          one_tile(panel, t, c, columns, t + 1 == tiles_ ? here + columns / kF.block * block_bytes(kF, P) : nullptr,
                   a_.bias, {a_.out + t * kTileRows * a_.out_stride + panel * P, a_.out_stride});
      }
  }

  /// The activations of one chunk stay in the second cache while a group of panels passes, and so do their sums: rows
  /// of results lie in different pages, and often in the same few sets of a cache.
  void group(std::int64_t first, std::int64_t last, std::int64_t first_tile, std::int64_t last_tile) {
    for (std::int64_t c = 0; c < a_.k; c += Part::kColumns)
      for (std::int64_t panel = first; panel < last; ++panel) {
        const std::int64_t columns = min64(Part::kColumns, a_.k - c);
        unpack(panel, c, columns);
        float* sums = sums_ + (panel - first) * kGroupTiles * kTileRows * P;
        std::int64_t t = first_tile;
        if constexpr (Part::kPairs)
          for (; t + 2 <= last_tile; t += 2, sums += 2 * kTileRows * P) two_tiles(t, c, columns, sums);
        for (; t < last_tile; ++t, sums += kTileRows * P) one_tile(panel, t, c, columns, nullptr, nullptr, {sums, P});
      }
    for (std::int64_t r = first_tile * kTileRows; r < min64(last_tile * kTileRows, a_.rows); ++r)
      for (std::int64_t panel = first; panel < last; ++panel) {
        const __mmask16 lanes = first_lanes(a_.n - panel * P);
        const std::int64_t at = (panel - first) * kGroupTiles * kTileRows + r - first_tile * kTileRows;
        const F sum = V::load(sums_ + at * P);
        _mm512_mask_storeu_ps(a_.out + r * a_.out_stride + panel * P, lanes,
                              a_.bias ? V::add(sum, _mm512_maskz_loadu_ps(lanes, a_.bias + panel * P)) : sum);
      }
  }

  /// Columns c.. of a panel; returns where they lie.
  const std::uint8_t* unpack(std::int64_t panel, std::int64_t c, std::int64_t columns) {
    const std::uint8_t *data = a_.panels + panel * a_.panel_bytes, *here = data + c / kF.block * block_bytes(kF, P);
    chunk_.unpack_from(here, columns);
    if (c + columns == a_.k) minimums_.build(data, a_.k);
    return here;
  }

  void one_tile(std::int64_t panel, std::int64_t t, std::int64_t c, std::int64_t columns, const std::uint8_t* next,
                const float* bias, Sums to) {
    const std::int64_t rows = a_.rows - t * kTileRows;
    if (kRowsMax > 8 && rows > 8)
      tile_rows<kF, kRowsMax>(a_, panel, t, c, columns, next, chunk_, minimums_, bias, to);
    else if (rows > 4)
      tile_rows<kF, 8>(a_, panel, t, c, columns, next, chunk_, minimums_, bias, to);
    else
      tile_rows<kF, 4>(a_, panel, t, c, columns, next, chunk_, minimums_, bias, to);
  }

  void two_tiles(std::int64_t t, std::int64_t c, std::int64_t columns, float* sums) {
    if (c == 0)
      for (int r = 0; r < 2 * kTileRows; ++r) V::store(sums + r * P, V::zero());
    chunk_.multiply_pair(a_.quantized, t, c, columns, sums);
    if (c + columns < a_.k) return;
    add_minimums<kF>(a_, t, minimums_, sums);
    add_minimums<kF>(a_, t + 1, minimums_, sums + kTileRows * P);
  }

  const LinearArgs& a_;
  const std::int64_t tiles_;
  Part chunk_;
  Minimums<kF> minimums_;
  alignas(64) float sums_[kGroup * kGroupTiles * kTileRows * P];  // [panel][row][16]
};

template<const PanelFormat& kF>
void linear_tiles(const LinearArgs& a) {
  if (a.quantized.tile == 1) {
    if constexpr (kTiledMinimums<kF>)
      if (a.k <= kTileColumnsMax) {
        const NoDenormals guard;
        return for_panels(a, FewRows<kF>{});
      }
    return linear_quantized<kF>(a);
  }
  const NoDenormalsIf<kTiledMinimums<kF>> guard;  // as few rows are computed
  if constexpr (kF.block == 256 && kF.sub == 32)
    if (a.rows <= 8) return PanelProduct<kF, FewRowsChunk<kF>, 8>(a).run();
  PanelProduct<kF, Chunk<kF>, 16>(a).run();
}

}  // namespace
}  // namespace llorch::kernel
