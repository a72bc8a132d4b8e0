// Attention over pages of F16 on bfloat16 tiles. A part of amx.cc.
//
// Queries, keys, weights and values are sums of two bfloat16 (exact for F16, 16 of a float's 24 bits); products of two
// low parts are left out (2^-16). Sixteen queries are the rows of a tile, and a single query goes the same way: a
// tile's rows do not see each other. Tiles make denormal sums zero, so a page in which a query has no part leaves its
// sums as they are. Sums go over the pairs (i, i + 16) of every 32 dimensions or positions, so that two vectors become
// one row of a tile without a shuffle.
#pragma once

namespace llorch::kernel {
namespace {

constexpr int kTileDimMax = 256;                // of a head, padded; larger ones go by vectors
constexpr std::int64_t kPart = kTileRows * 32;  // values of one tile
constexpr std::int64_t kPair = 2 * kPart;       // a high and a low tile
constexpr int kTilesMax = kAttendQueriesMax / kTileRows;

inline I bits_of(F x) { return _mm512_castps_si512(x); }
inline I upper_halves() { return _mm512_set1_epi32(static_cast<int>(0xFFFF0000)); }
inline F upper_part(F x) { return _mm512_castsi512_ps(_mm512_and_si512(bits_of(x), upper_halves())); }
/// Half a bfloat16's last place more, so that cutting rounds.
inline F before_cut(F x) { return _mm512_castsi512_ps(_mm512_add_epi32(bits_of(x), _mm512_set1_epi32(0x8000))); }
/// The upper halves of both: `odd` above `even`.
inline I cut_pair(F even, F odd) {
  constexpr int kSelect = 0xEA;  // (a & b) | c
  return _mm512_ternarylogic_epi32(bits_of(odd), upper_halves(), _mm512_srli_epi32(bits_of(even), 16), kSelect);
}
/// Two vectors as one row of a high and of a low tile. `kExact`: 16 bits hold them.
template<bool kExact>
inline void store_pair(F even, F odd, std::uint16_t* to) {
  const F even_top = upper_part(kExact ? even : before_cut(even)), odd_top = upper_part(kExact ? odd : before_cut(odd));
  _mm512_store_si512(to, cut_pair(even_top, odd_top));
  const F even_rest = V::sub(even, even_top), odd_rest = V::sub(odd, odd_top);
  _mm512_store_si512(to + kPart,
                     kExact ? cut_pair(even_rest, odd_rest) : cut_pair(before_cut(even_rest), before_cut(odd_rest)));
}

/// 2^x for x <= 0, 2^-23 of the result wrong at most. Polynomial: minimax of the relative error on [0, 1).
inline F exp2_of(F x) {
  const F f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
  F p = V::set1(0.001867130082f);
  p = V::fma(p, f, V::set1(0.009017030284f));
  p = V::fma(p, f, V::set1(0.05579991315f));
  p = V::fma(p, f, V::set1(0.2401644501f));
  p = V::fma(p, f, V::set1(0.6931513118f));
  p = V::fma(p, f, V::set1(1.0f));
  return _mm512_scalef_ps(p, x);  // times 2^floor(x)
}

/// Lane r: all lanes of v[r] joined by `op`, always in the same order.
template<class Op>
inline F across(const F* v, const Op& op) {
  F u[4];
  for (int i = 0; i < 4; ++i) {
    const F *a = v + 4 * i, low = op(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1])),
            high = op(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
    const auto doubles = [](F x) { return _mm512_castps_pd(x); };
    u[i] = op(_mm512_castpd_ps(_mm512_unpacklo_pd(doubles(low), doubles(high))),
              _mm512_castpd_ps(_mm512_unpackhi_pd(doubles(low), doubles(high))));
  }
  const auto lanes = [&](F a, F b) { return op(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD)); };
  return lanes(lanes(u[0], u[1]), lanes(u[2], u[3]));
}

/// Rows first..last-1 of F16 become tiles, 32 rows by 16 columns each, `tiles` beside each other from column `column`
/// on. Rows from `end` on count as zeros. Memory at `next` is asked for meanwhile: the page after this one.
inline void split_page(const std::uint8_t* from, const std::uint8_t* next, int stride, int first, int last, int end,
                       int column, int tiles, std::uint16_t* to) {
  const auto row = [&](int r, int t) {
    return r < end ? V::load_half(from + 2 * (static_cast<std::int64_t>(r) * stride + column + 16 * t)) : V::zero();
  };
  for (int step = first; step < last; step += 32, to += tiles * kPair)
    for (int r = 0; r < 16; ++r)
      for (int t = 0; t < tiles; ++t, next += 64) {
        __builtin_prefetch(next, 0, 2);
        store_pair<true>(row(step + r, t), row(step + r + 16, t), to + t * kPair + r * 32);
      }
}

/// c (rows, kTiles * 16) = a * b, or += a * b, over `steps` times 32; `a`: [steps][high, low], `b`:
/// [steps][tiles][high, low].
template<int kTiles, bool kAdd>
inline void multiply_pairs(const std::uint16_t* a, const std::uint16_t* b, std::int64_t b_stride, int steps, float* c,
                           std::int64_t c_bytes) {
  static_assert(kTiles == 2 || kTiles == 4);
  if constexpr (kAdd) {
    LLORCH_TILE_LOAD(0, c, c_bytes);
    LLORCH_TILE_LOAD(1, c + 16, c_bytes);
    if constexpr (kTiles == 4) {
      LLORCH_TILE_LOAD(2, c + 32, c_bytes);
      LLORCH_TILE_LOAD(3, c + 48, c_bytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kTiles == 4) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (int s = 0; s < steps; ++s, a += kPair, b += b_stride) {
    LLORCH_TILE_LOAD(4, a, 64);
    LLORCH_TILE_LOAD(5, a + kPart, 64);
    LLORCH_TILE_LOAD(6, b, 64);
    LLORCH_TILE_LOAD(7, b + kPair, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(0, 5, 6);
    _tile_dpbf16ps(1, 5, 7);
    if constexpr (kTiles == 4) {
      LLORCH_TILE_LOAD(6, b + 2 * kPair, 64);
      LLORCH_TILE_LOAD(7, b + 3 * kPair, 64);
      _tile_dpbf16ps(2, 4, 6);
      _tile_dpbf16ps(3, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      LLORCH_TILE_LOAD(6, b + 2 * kPair + kPart, 64);
      LLORCH_TILE_LOAD(7, b + 3 * kPair + kPart, 64);
      _tile_dpbf16ps(2, 4, 6);
      _tile_dpbf16ps(3, 4, 7);
    }
    LLORCH_TILE_LOAD(6, b + kPart, 64);
    LLORCH_TILE_LOAD(7, b + kPair + kPart, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  _tile_stored(0, c, c_bytes);
  _tile_stored(1, c + 16, c_bytes);
  if constexpr (kTiles == 4) {
    _tile_stored(2, c + 32, c_bytes);
    _tile_stored(3, c + 48, c_bytes);
  }
}

/// multiply_pairs() over all columns, a multiple of 32.
template<bool kAdd>
inline void multiply_columns(const std::uint16_t* a, const std::uint16_t* b, int steps, float* c, int columns,
                             std::int64_t c_bytes) {
  const std::int64_t b_stride = columns / 16 * kPair;
  int at = 0;
  for (; at + 64 <= columns; at += 64)
    multiply_pairs<4, kAdd>(a, b + at / 16 * kPair, b_stride, steps, c + at, c_bytes);
  if (at < columns) multiply_pairs<2, kAdd>(a, b + at / 16 * kPair, b_stride, steps, c + at, c_bytes);
}

class TiledAttention {
 public:
  explicit TiledAttention(const AttendArgs& a)
      : a_(a),
        dim_(a.layout.head_dim_padded),
        tiles_((a.count + kTileRows - 1) / kTileRows),
        factor_(a.softcap > 0 ? a.scale : a.scale * kLog2E) {
    TileShapes shapes;
    const int m = static_cast<int>(min64(a.count, kTileRows));
    for (int t = 0; t < 6; ++t) shapes.set(t, m, 64);
    shapes.set(6, 16, 64), shapes.set(7, 16, 64);
    configure(shapes);
    const std::int64_t rows = tiles_ == 1 ? m : tiles_ * kTileRows;
    __builtin_memset(sums_, 0, static_cast<std::size_t>(rows * dim_) * sizeof(float));
    for (int q = 0; q < tiles_ * kTileRows; ++q)
      if (q < a.count)
        begin(q);
      else if (tiles_ > 1)
        store_query(q, nullptr);
    for (int q = a.count; q < tiles_ * kTileRows; ++q) tops_[q] = kMasked, masses_[q] = 0;
  }
  ~TiledAttention() { _tile_release(); }
  TiledAttention(const TiledAttention&) = delete;
  TiledAttention& operator=(const TiledAttention&) = delete;

  void run() {
    std::int64_t oldest = a_.queries[0].position, newest = 0;
    for (int q = 0; q < a_.count; ++q) {
      oldest = min64(oldest, oldest_[q]);
      newest = a_.queries[q].position > newest ? a_.queries[q].position : newest;
    }
    for (std::int64_t page = oldest / 64; page <= newest / 64; ++page) {
      const auto end = static_cast<int>(min64(newest + 1 - page * 64, 64));
      attend(page, page < newest / 64 ? a_.pages[page + 1] : a_.pages[page],
             page == oldest / 64 ? static_cast<int>(oldest % 64) / 32 * 32 : 0, (end + 31) / 32 * 32, end);
    }
    for (int q = 0; q < a_.count; ++q) {
      const float inverse = 1 / masses_[q];
      for (int d = 0; d < a_.layout.head_dim; ++d) a_.queries[q].out[d] = sums_[q * dim_ + d] * inverse;
    }
  }

 private:
  static constexpr float kLog2E = 1.44269504f;

  /// The dimensions of a query, scaled, as rows of tiles; null: zeros.
  void store_query(int q, const float* x) {
    std::uint16_t* to = queries_ + q / kTileRows * (dim_ / 32 * kPair) + q % kTileRows * 32;
    for (int d = 0; d < dim_; d += 32, to += kPair) {
      const std::int64_t left = x ? a_.layout.head_dim - d : 0;
      const auto part = [&](int from) {
        return left > from ? V::mul(_mm512_maskz_loadu_ps(first_lanes(left - from), x + d + from), V::set1(factor_))
                           : V::zero();
      };
      store_pair<false>(part(0), part(16), to);
    }
  }
  void begin(int q) {
    const std::int64_t end = a_.queries[q].position + a_.queries[q].beyond + 1;
    oldest_[q] = a_.window > 0 && end > a_.window ? end - a_.window : 0;
    tops_[q] = a_.has_sink ? a_.queries[q].sink * kLog2E : kMasked;
    masses_[q] = a_.has_sink ? 1.0f : 0.0f;
    store_query(q, a_.queries[q].query);
  }

  /// One page, of which somebody sees positions up to `end`; first and last are multiples of 32 around them.
  void attend(std::int64_t page, const std::uint8_t* next, int first, int last, int end) {
    const std::uint8_t* keys = a_.pages[page];
    split_page(keys, next, 64, 0, dim_, dim_, first, (last - first) / 16, page_);
    bool taken[kTilesMax];
    for (int t = 0; t < tiles_; ++t) {
      taken[t] = see(page, t);
      if (!taken[t]) continue;
      multiply_columns<false>(queries_ + t * (dim_ / 32 * kPair), page_, dim_ / 32, scores_ + first, last - first, 256);
      weigh(t, first, last);
    }
    split_page(keys + a_.layout.values, next + a_.layout.values, dim_, first, last, end, 0, dim_ / 16, page_);
    for (int t = 0; t < tiles_; ++t)
      if (taken[t])
        multiply_columns<true>(weights_[t], page_, (last - first) / 32, sums_ + t * kTileRows * dim_, dim_,
                               std::int64_t{dim_} * 4);
  }

  /// What each query of a tile sees of a page; false: none sees anything.
  bool see(std::int64_t page, int t) {
    bool any = false;
    all_ = a_.softcap <= 0;
    rows_ = static_cast<int>(min64(kTileRows, a_.count - t * kTileRows));
    for (int r = 0; r < rows_; ++r) {
      const int q = t * kTileRows + r;
      const std::int64_t from = oldest_[q] - page * 64, to = a_.queries[q].position + 1 - page * 64;
      seen_[r] = from >= 64 || to <= 0 ? 0
                                       : (to >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << to) - 1) &
                                             (from <= 0 ? ~std::uint64_t{0} : ~((std::uint64_t{1} << from) - 1));
      any |= seen_[r] != 0;
      all_ &= seen_[r] == ~std::uint64_t{0};
    }
    return any;
  }
  [[nodiscard]] __mmask16 seen(int row, int i) const { return static_cast<__mmask16>(seen_[row] >> i); }

  /// A tile's scores become weights relative to each query's largest so far; what was summed before is rescaled.
  void weigh(int t, int first, int last) {
    F rows[kTileRows];
    if (!all_) mask_scores(first, last);
    for (int r = 0; r < kTileRows; ++r) {
      rows[r] = V::set1(kMasked);
      for (int i = first; r < rows_ && i < last; i += 16) rows[r] = V::max(rows[r], V::load(scores_ + r * 64 + i));
    }
    float* tops = tops_ + t * kTileRows;
    const F before = V::load(tops), top = V::max(before, across(rows, V::max)), keep = exp2_of(V::sub(before, top));
    V::store(tops, top);
    for (int r = 0; r < kTileRows; ++r) rows[r] = V::zero();
    for (int r = 0; r < rows_; ++r) rows[r] = row_weights(t, r, first, last, V::set1(tops[r]));
    float* masses = masses_ + t * kTileRows;
    V::store(masses, V::fma(V::load(masses), keep, across(rows, V::add)));
    alignas(64) float keeps[kTileRows];
    V::store(keeps, keep);
    const unsigned changed = _mm512_cmp_ps_mask(keep, V::set1(1), _CMP_NEQ_OQ) & ((1u << rows_) - 1);
    for (unsigned left = changed; left; left &= left - 1) {
      const int r = __builtin_ctz(left);
      float* sums = sums_ + (t * kTileRows + r) * dim_;
      for (int d = 0; d < dim_; d += P) V::store(sums + d, V::mul(V::load(sums + d), V::set1(keeps[r])));
    }
  }
  void mask_scores(int first, int last) {
    for (int r = 0; r < rows_; ++r)
      for (int i = first; i < last; i += 16) {
        F s = V::load(scores_ + r * 64 + i);
        if (a_.softcap > 0) s = capped(s);
        V::store(scores_ + r * 64 + i, _mm512_mask_mov_ps(V::set1(kMasked), seen(r, i), s));
      }
  }
  /// softcap * tanh(s / softcap), in powers of two.
  [[nodiscard]] F capped(F s) const {
    const F x = V::abs(V::mul(s, V::set1(1 / a_.softcap))), e = exp2_of(V::mul(x, V::set1(-2 * kLog2E)));
    const F tanh = V::div(V::sub(V::set1(1), e), V::add(V::set1(1), e));
    const F signs = V::set1(-0.0f);
    return V::mul(_mm512_or_ps(tanh, _mm512_and_ps(s, signs)), V::set1(a_.softcap * kLog2E));
  }
  /// Writes a row's weights and returns their sums, lane by lane.
  F row_weights(int t, int r, int first, int last, F top) {
    std::uint16_t* to = weights_[t] + r * 32;
    F total = V::zero();
    const bool none = seen_[r] == 0;
    for (int i = first; i < last; i += 32, to += kPair) {
      const auto weight = [&](int at) {
        return none ? V::zero() : exp2_of(V::sub(V::load(scores_ + r * 64 + at), top));
      };
      const F even = weight(i), odd = weight(i + 16);
      store_pair<false>(even, odd, to);
      total = V::add(V::add(total, even), odd);
    }
    return total;
  }

  const AttendArgs& a_;
  const int dim_, tiles_;
  const float factor_;  // of the scores
  // Of each query: the largest score so far, the sum of exponentials relative to it, its first position.
  alignas(64) float tops_[kAttendQueriesMax];
  alignas(64) float masses_[kAttendQueriesMax];
  std::int64_t oldest_[kAttendQueriesMax];
  // Of the tile at work: its queries, what they see, whether that is everything as it is.
  int rows_ = 0;
  std::uint64_t seen_[kTileRows];
  bool all_ = false;
  alignas(64) std::uint16_t page_[kTileDimMax / 32 * 4 * kPair];  // keys, then values
  alignas(64) std::uint16_t queries_[2 * kAttendFloats];          // [16 queries][32 dimensions][high, low]
  alignas(64) std::uint16_t weights_[kTilesMax][2 * kPair] = {};  // [16 queries][32 positions][high, low]
  alignas(64) float scores_[kTileRows * 64];
  alignas(64) float sums_[kAttendFloats];
};

void attend_tiles(const AttendArgs& a) {
  if (a.layout.type != KvType::kF16 || a.layout.head_dim_padded > kTileDimMax) return attend(a);
  const NoDenormals no_denormals;
  TiledAttention(a).run();
}

}  // namespace
}  // namespace llorch::kernel
