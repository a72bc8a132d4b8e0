// F16 and BF16 weights on bfloat16 tiles. A part of amx.cc.
#pragma once

namespace llorch::kernel {
namespace {

enum class Weights { kBfloat, kHalf, kSplitHalf };  // kSplitHalf: a panel's F16 weights, already split

constexpr int kPlainChunk = 512;                 // columns whose activations and split weights stay in the second cache
constexpr std::int64_t kPlainStep = 32 * P * 2;  // bytes of 32 columns of a panel
constexpr std::int64_t kSplitStep = 2 * kPlainStep;

/// 32 columns of F16 weights as high and low parts, one tile each.
inline void split_half(const std::uint8_t* from, std::uint8_t* to) {
  for (int pair = 0; pair < 16; ++pair) {
    I top, rest;
    split(V::load_half(from + pair * 64), V::load_half(from + pair * 64 + 32), top, rest);
    _mm512_store_si512(to + pair * 64, top);
    _mm512_store_si512(to + kPlainStep + pair * 64, rest);
  }
}

/// One panel's 32 columns times one tile of rows, into tile kSum. Tiles 4, 5: activations (high, low); 6, 7: weights.
// GCC's intrinsics take a tile's number as a literal only, so four functions of one shape: multiply_split_0 to _3.
#define LLORCH_MULTIPLY_SPLIT(sum)                           \
  template<bool kTwoParts>                                   \
  inline void multiply_split_##sum(const std::uint16_t* x) { \
    LLORCH_TILE_LOAD(4, x, 64);                              \
    LLORCH_TILE_LOAD(5, x + 512, 64);                        \
    _tile_dpbf16ps(sum, 4, 6);                               \
    _tile_dpbf16ps(sum, 5, 6);                               \
    if constexpr (kTwoParts) _tile_dpbf16ps(sum, 4, 7);      \
  }
LLORCH_MULTIPLY_SPLIT(0)
LLORCH_MULTIPLY_SPLIT(1)
LLORCH_MULTIPLY_SPLIT(2)
LLORCH_MULTIPLY_SPLIT(3)
#undef LLORCH_MULTIPLY_SPLIT

/// Adds to tiles 2 p + t, panel p and tile of rows t, `steps` times 32 columns.
template<Weights kWeights, int kPanels, int kTiles>
inline void plain_tiles(const std::uint8_t* const* weights, const std::uint16_t* const* x, std::int64_t steps) {
  constexpr bool kTwoParts = kWeights != Weights::kBfloat;
  alignas(64) std::uint8_t parts[kWeights == Weights::kHalf ? kSplitStep : 64];
  const auto load_weights = [&](int panel, std::int64_t s) {
    const std::uint8_t* w = weights[panel] + s * (kWeights == Weights::kSplitHalf ? kSplitStep : kPlainStep);
    if constexpr (kTiles == 1 && kWeights != Weights::kSplitHalf)
      for (int i = 0; i < kPlainStep; i += 64) __builtin_prefetch(w + kAhead + i);
    if constexpr (kWeights == Weights::kHalf) split_half(w, parts), w = parts;
    LLORCH_TILE_LOAD(6, w, 64);
    if constexpr (kTwoParts) LLORCH_TILE_LOAD(7, w + kPlainStep, 64);
  };
  for (std::int64_t s = 0; s < steps; ++s) {
    load_weights(0, s);
    multiply_split_0<kTwoParts>(x[0] + s * 1024);
    if constexpr (kTiles == 2) multiply_split_1<kTwoParts>(x[1] + s * 1024);
    if constexpr (kPanels == 2) {
      load_weights(1, s);
      multiply_split_2<kTwoParts>(x[0] + s * 1024);
      if constexpr (kTiles == 2) multiply_split_3<kTwoParts>(x[1] + s * 1024);
    }
  }
}

/// The sums of one panel and tile of rows between memory and a 16 x 16 buffer.
struct Corner {
  float* out;
  std::int64_t stride, rows;
  __mmask16 lanes;
  Corner(const LinearArgs& a, std::int64_t panel, std::int64_t tile)
      : out(a.out + tile * kTileRows * a.out_stride + panel * P),
        stride(a.out_stride),
        rows(min64(kTileRows, a.rows - tile * kTileRows)),
        lanes(first_lanes(a.n - panel * P)) {}
  void load(float* buffer) const {
    for (std::int64_t r = 0; r < rows; ++r) V::store(buffer + r * P, _mm512_maskz_loadu_ps(lanes, out + r * stride));
  }
  void store(const float* buffer, const float* bias) const {
    const F more = bias ? _mm512_maskz_loadu_ps(lanes, bias) : V::zero();
    for (std::int64_t r = 0; r < rows; ++r)
      _mm512_mask_storeu_ps(out + r * stride, lanes,
                            bias ? V::add(V::load(buffer + r * P), more) : V::load(buffer + r * P));
  }
};

/// Up to 2 x 2 tiles of results. `weights`: the panels' columns from c on.
template<Weights kWeights, int kPanels, int kTiles>
inline void plain_corner(const LinearArgs& a, const std::uint8_t* const* weights, std::int64_t panel, std::int64_t tile,
                         std::int64_t c, std::int64_t columns) {
  alignas(64) float sums[4][16 * P] = {};
  const std::uint16_t* x[2];
  for (int t = 0; t < kTiles; ++t) x[t] = a.split + ((tile + t) * ((a.k + 31) / 32) + c / 32) * 1024;
  if (c > 0)
    for (int p = 0; p < kPanels; ++p)
      for (int t = 0; t < kTiles; ++t) Corner(a, panel + p, tile + t).load(sums[2 * p + t]);
  LLORCH_TILE_LOAD(0, sums[0], 64);
  LLORCH_TILE_LOAD(1, sums[1], 64);
  LLORCH_TILE_LOAD(2, sums[2], 64);
  LLORCH_TILE_LOAD(3, sums[3], 64);
  plain_tiles<kWeights, kPanels, kTiles>(weights, x, (columns + 31) / 32);
  _tile_stored(0, sums[0], 64);
  _tile_stored(1, sums[1], 64);
  _tile_stored(2, sums[2], 64);
  _tile_stored(3, sums[3], 64);
  const bool last = c + columns == a.k;
  for (int p = 0; p < kPanels; ++p)
    for (int t = 0; t < kTiles; ++t)
      Corner(a, panel + p, tile + t).store(sums[2 * p + t], last && a.bias ? a.bias + (panel + p) * P : nullptr);
}

template<Weights kWeights, int kPanels>
inline void plain_panels(const LinearArgs& a, const std::uint8_t* const* weights, std::int64_t panel, std::int64_t c,
                         std::int64_t columns) {
  const std::int64_t tiles = (a.rows + kTileRows - 1) / kTileRows;
  std::int64_t t = 0;
  for (; t + 2 <= tiles; t += 2) plain_corner<kWeights, kPanels, 2>(a, weights, panel, t, c, columns);
  if (t < tiles) plain_corner<kWeights, kPanels, 1>(a, weights, panel, t, c, columns);
}

template<bool kHalf>
void linear_split(const LinearArgs& a) {
  TileShapes shapes;
  const int m = static_cast<int>(min64(a.rows, kTileRows));
  for (int t = 0; t < 6; ++t) shapes.set(t, m, 64);
  shapes.set(6, 16, 64), shapes.set(7, 16, 64);
  configure(shapes);
  // Few rows stream the weights once; for many, the activations of some columns stay in the second cache.
  const bool few = a.rows <= 2 * kTileRows;
  const std::int64_t chunk = few ? a.k : kPlainChunk;
  alignas(64) std::uint8_t split_weights[2][kHalf ? kPlainChunk / 32 * kSplitStep : 64];
  for (std::int64_t c = 0; c < a.k; c += chunk) {
    const std::int64_t columns = min64(chunk, a.k - c);
    for (std::int64_t panel = a.first_panel; panel < a.last_panel; panel += 2) {
      const int panels = panel + 1 < a.last_panel ? 2 : 1;
      const std::uint8_t* weights[2];
      for (int p = 0; p < panels; ++p) weights[p] = a.panels + (panel + p) * a.panel_bytes + c / 32 * kPlainStep;
      const auto run = [&]<Weights kWeights>() {
        if (panels == 2)
          plain_panels<kWeights, 2>(a, weights, panel, c, columns);
        else
          plain_panels<kWeights, 1>(a, weights, panel, c, columns);
      };
      if constexpr (!kHalf) {
        run.template operator()<Weights::kBfloat>();
      } else if (few) {
        run.template operator()<Weights::kHalf>();
      } else {
        for (int p = 0; p < panels; ++p) {
          for (std::int64_t s = 0; s < (columns + 31) / 32; ++s)
            split_half(weights[p] + s * kPlainStep, split_weights[p] + s * kSplitStep);
          weights[p] = split_weights[p];
        }
        run.template operator()<Weights::kSplitHalf>();
      }
    }
  }
  _tile_release();
}

}  // namespace
}  // namespace llorch::kernel
