// Products with weights of plain formats. A part of body.h.
#pragma once

namespace llorch::kernel {
namespace {

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
    if constexpr (kRows <= 2) {
      const std::uint8_t* ahead = ahead_of(a, panel + c * P * T::kBytes);
      for (int i = 0; i < 4 * P * T::kBytes; i += 64) __builtin_prefetch(ahead + i);
    }
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

/// sums += the products with columns first, first + 4, .. (A function of its own: the registers hold its pointers.)
template<class T, int kRows, int kPanels>
[[gnu::noinline]] void add_plain_columns(const std::uint8_t* const* panels, const float* const* x, std::int64_t first,
                                         std::int64_t last, F (*sums)[kRows]) {
  F some[kPanels][kRows];
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p)
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) some[p][r] = sums[p][r];
  for (std::int64_t c = first; c < last; c += 4) {
    F w[kPanels];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) w[p] = T::load(panels[p] + c * P * T::kBytes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F value = V::set1(x[r][c]);
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) some[p][r] = V::fma(w[p], value, some[p][r]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p)
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[p][r] = some[p][r];
}

/// The same sums of `tiles` times kRows rows, for kPanels panels: each of the four partial sums by itself, so that the
/// registers hold one for every output and each weight that is loaded meets kRows rows; some columns at a time, which
/// stay in the first cache while all rows pass by.
template<class T, int kRows, int kPanels, int kTiles>
inline void plain_tiles(const LinearArgs& a, const std::uint8_t* const* panels, std::int64_t row, int tiles,
                        F (*sums)[kPanels][kRows]) {
  constexpr std::int64_t kColumns = 512 / T::kBytes;
  F partial[kTiles][4][kPanels][kRows];
  for (int tile = 0; tile < tiles; ++tile)
    for (auto& of_column : partial[tile])
      for (auto& of_panel : of_column)
        for (F& sum : of_panel) sum = V::zero();
  for (std::int64_t first = 0; first < a.k; first += kColumns)
    for (int tile = 0; tile < tiles; ++tile) {
      const std::int64_t last = min64(first + kColumns, a.k);
      const float* x[kRows];
      for (int r = 0; r < kRows; ++r) x[r] = a.x + (row + tile * kRows + r) * a.x_stride;
      for (int u = 0; u < 4; ++u) add_plain_columns<T, kRows, kPanels>(panels, x, first + u, last, partial[tile][u]);
    }
  for (int tile = 0; tile < tiles; ++tile)
    for (int p = 0; p < kPanels; ++p)
      for (int r = 0; r < kRows; ++r) {
        const auto part = [&](int u) { return partial[tile][u][p][r]; };
        sums[tile][p][r] = V::add(V::add(part(0), part(1)), V::add(part(2), part(3)));
      }
}

}  // namespace
}  // namespace llorch::kernel
