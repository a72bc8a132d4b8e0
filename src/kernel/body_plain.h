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

}  // namespace
}  // namespace llorch::kernel
