// The minimums of block formats: by tiles for many rows, by vectors for few, with the same bits. A part of amx.cc.
#pragma once

namespace llorch::kernel {
namespace {

/// Minimums per 32 columns are a product of their own, of a 32nd of the columns: minimums and offsets, both split in
/// two, by tiles.
template<const PanelFormat& kF>
constexpr bool kTiledMinimums = BlockScales<kF>::kHasMinimum&& kF.sub == 32;

template<const PanelFormat& kF>
class TiledMinimums {
 public:
  static void shape(TileShapes& shapes) {
    for (const int t : {2, 3, 5}) shapes.set(t, 16, 64);
  }

  /// All of one panel: pairs of sub-blocks, 16 pairs a tile, filled up with zeros.
  void build(const std::uint8_t* panel, std::int64_t k) {
    const std::int64_t count = k / 32;
    steps_ = (count + 31) / 32;
    std::uint16_t* to = tiles_;
    if constexpr (kF.block == 256) {
      for (std::int64_t b = 0; b < k / 256; ++b, panel += block_bytes(kF, P)) {
        const BlockScales<kF> block(panel);
#pragma GCC unroll 4
        for (int s = 0; s < 8; s += 2) to = put(to, block.minimum(s), block.minimum(s + 1));
      }
    } else {
      for (std::int64_t s = 0; s < count; s += 2, panel += 2 * block_bytes(kF, P))
        to = put(to, BlockScales<kF>(panel).m,
                 s + 1 < count ? BlockScales<kF>(panel + block_bytes(kF, P)).m : V::zero());
    }
    while (to != tiles_ + steps_ * 1024) to = put(to, V::zero(), V::zero());
  }

  /// Products with a tile of rows' offsets, 16 floats a row.
  void multiply(const std::uint16_t* offsets, float* products) const {
    _tile_zero(2);
    for (std::int64_t s = 0; s < steps_; ++s) {
      LLORCH_TILE_LOAD(3, offsets + s * 1024, 64);
      LLORCH_TILE_LOAD(5, tiles_ + s * 1024, 64);
      _tile_dpbf16ps(2, 3, 5);
      LLORCH_TILE_LOAD(5, tiles_ + s * 1024 + 512, 64);
      _tile_dpbf16ps(2, 3, 5);
      LLORCH_TILE_LOAD(3, offsets + s * 1024 + 512, 64);
      LLORCH_TILE_LOAD(5, tiles_ + s * 1024, 64);
      _tile_dpbf16ps(2, 3, 5);
    }
    _tile_stored(2, products, 64);
  }
  /// Where a tile's offsets lie.
  [[nodiscard]] const std::uint16_t* offsets(const QuantizedRows& q, std::int64_t tile) const {
    return q.offsets + tile * steps_ * 1024;
  }

 private:
  /// Two sub-blocks' minimums, split, become one row of both tiles. Returns the place of the next.
  std::uint16_t* put(std::uint16_t* to, F even, F odd) const {
    static constexpr auto kInterleaved = [] {
      struct {
        alignas(64) std::uint16_t v[32];
      } order{};
      for (int i = 0; i < 32; ++i) order.v[i] = static_cast<std::uint16_t>(i / 2 + i % 2 * 16);
      return order;
    }();
    const I order = _mm512_load_si512(kInterleaved.v);
    const I top = _mm512_permutexvar_epi16(order, round_to_bfloat(even, odd));
    const F even_rest = V::sub(even, _mm512_castsi512_ps(_mm512_slli_epi32(top, 16)));
    const F odd_rest =
        V::sub(odd, _mm512_castsi512_ps(_mm512_and_si512(top, _mm512_set1_epi32(static_cast<int>(0xffff0000)))));
    _mm512_store_si512(to, top);
    _mm512_store_si512(to + 512, _mm512_permutexvar_epi16(order, round_to_bfloat(even_rest, odd_rest)));
    to += 32;
    return (to - tiles_) % 1024 == 512 ? to + 512 : to;
  }

  alignas(64) std::uint16_t tiles_[kTileColumnsMax / 32 * P * 2];
  std::int64_t steps_ = 0;
};
/// Nothing, for other formats.
template<const PanelFormat& kF>
class NoMinimums {
 public:
  static void shape(TileShapes&) {}
  void build(const std::uint8_t*, std::int64_t) {}
};

template<bool kFirst, class First, class Second>
struct Either {
  using Type = First;
};
template<class First, class Second>
struct Either<false, First, Second> {
  using Type = Second;
};
template<const PanelFormat& kF>
using Minimums = typename Either<kTiledMinimums<kF>, TiledMinimums<kF>, NoMinimums<kF>>::Type;

/// Denormals are zeros while this lives: what tiles do by themselves.
class NoDenormals {
 public:
  NoDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~NoDenormals() { _mm_setcsr(before_); }
  NoDenormals(const NoDenormals&) = delete;
  NoDenormals& operator=(const NoDenormals&) = delete;

 private:
  unsigned before_;
};

template<bool kNone>
struct NoDenormalsIf {
  NoDenormalsIf() {}
};
template<>
struct NoDenormalsIf<true> : NoDenormals {};

/// Few rows, by vectors. Their minimums are summed in the order of the tile instruction: the even and the odd columns
/// of 32 apart, fused and from zero, then both together onto the sum. That is done block by block, so that reading does
/// not wait for it.
template<const PanelFormat& kF>
struct FewRows {
  template<int kRows>
  void run(const LinearArgs& a, const std::uint8_t* panel, std::int64_t row, F* sums) const {
    const std::int64_t count = a.k / 32;
    F total[kRows], even[3][kRows], odd[3][kRows];  // high * high, high * low, low * high
    for (int r = 0; r < kRows; ++r) total[r] = V::zero();
    const auto two_minimums = [&](std::int64_t i) {
      if (i % 32 == 0)
        for (int part = 0; part < 3; ++part)
          for (int r = 0; r < kRows; ++r) even[part][r] = odd[part][r] = V::zero();
      I top, rest;
      split(minimum(panel, i), i + 1 < count ? minimum(panel, i + 1) : V::zero(), top, rest);
      const F w[4] = {low_floats(top), high_floats(top), low_floats(rest), high_floats(rest)};
      for (int r = 0; r < kRows; ++r) {
        const std::uint16_t* x = a.quantized.offsets + i / 32 * 1024 + (row + r) * 32 + i % 32;
        const F x_even = first(x), x_odd = second(x), rest_even = first(x + 512), rest_odd = second(x + 512);
        even[0][r] = V::fma(x_even, w[0], even[0][r]), odd[0][r] = V::fma(x_odd, w[1], odd[0][r]);
        even[1][r] = V::fma(x_even, w[2], even[1][r]), odd[1][r] = V::fma(x_odd, w[3], odd[1][r]);
        even[2][r] = V::fma(rest_even, w[0], even[2][r]), odd[2][r] = V::fma(rest_odd, w[1], odd[2][r]);
      }
      if (i % 32 == 30 || i + 2 >= count)
        for (int part = 0; part < 3; ++part)
          for (int r = 0; r < kRows; ++r) total[r] = V::add(total[r], V::add(even[part][r], odd[part][r]));
    };
    panel_block<kF, kRows, false>(a, panel, row, sums, [&](std::int64_t b) {
      if constexpr (kF.block == 256) {
#pragma GCC unroll 4
        for (int i = 0; i < 8; i += 2) two_minimums(b * 8 + i);
      } else if (b % 2 == 1 || b + 1 == count) {
        two_minimums(b / 2 * 2);
      }
    });
    for (int r = 0; r < kRows; ++r) sums[r] = V::add(sums[r], total[r]);
  }

  static F minimum(const std::uint8_t* panel, std::int64_t s) {
    constexpr int kSubs = kF.block / 32;
    return BlockScales<kF>(panel + s / kSubs * block_bytes(kF, P)).minimum(static_cast<int>(s % kSubs));
  }
  /// One of a pair of bfloat16, in all lanes.
  static F first(const std::uint16_t* pair) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(V::broadcast4(reinterpret_cast<const std::int8_t*>(pair)), 16));
  }
  static F second(const std::uint16_t* pair) {
    return _mm512_castsi512_ps(_mm512_and_si512(V::broadcast4(reinterpret_cast<const std::int8_t*>(pair)),
                                                _mm512_set1_epi32(static_cast<int>(0xffff0000))));
  }
};

}  // namespace
}  // namespace llorch::kernel
