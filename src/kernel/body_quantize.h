// Rows of activations turned into codes, scales and sums. A part of body.h.
#pragma once

namespace llorch::kernel {
namespace {

/// The largest size of n values, a multiple of P; sizes are compared as whole numbers, so that no NaN is lost.
inline float largest_size(const float* x, int n) {
  F top = V::zero();
  for (int i = 0; i < n; i += P) top = V::larger_size(top, V::abs(V::load(x + i)));
  return V::largest_size(top);
}
constexpr float kInfinity = __builtin_inff();
/// What turns values up to `top` into whole numbers up to `most`. Sizes below 2^-100 are zeros: their inverse
/// overflows.
inline F inverse_of(F top, float most) {
  return V::select_less(top, V::set1(0x1p-100f), V::zero(), V::div(V::set1(most), top));
}
/// The nearest whole numbers, halves to even.
inline F to_whole(F x, float inverse) { return V::round(V::mul(x, V::set1(inverse))); }

/// What minimums are multiplied by: of 256 columns, the sums of every 32 and of every 16, as int16 under one scale.
inline void write_minimum_sums(const std::int16_t* sums, const float* scales, std::int16_t* out, float* out_scale) {
  constexpr float kMost = 32767;
  alignas(64) float values[32] = {}, inverse[P], once[16] = {}, twice[16];
  alignas(64) std::int16_t both[16] = {};
  for (int i = 0; i < 8; ++i) both[i] = static_cast<std::int16_t>(sums[2 * i] + sums[2 * i + 1]);
  for (int i = 0; i < 8; ++i) once[i] = twice[2 * i] = twice[2 * i + 1] = scales[i];
  for (int i = 0; i < 8; i += P) V::store(values + i, V::mul(V::load(once + i), V::load_i16(both + i)));
  for (int i = 0; i < 16; i += P) V::store(values + 16 + i, V::mul(V::load(twice + i), V::load_i16(sums + i)));
  const float top = largest_size(values, 32);
  *out_scale = -top / kMost;
  const bool finite = top < kInfinity;
  V::store(inverse, inverse_of(V::set1(finite ? top : 0), kMost));
  const auto write = [&](int from, std::int16_t* to) {
    V::store_i16(to, finite ? to_whole(V::load(values + from), inverse[0]) : V::zero());
  };
  for (int i = 0; i < 8; i += P) write(i, out + i);  // 16 lanes write more, which the next ones replace
  for (int i = 0; i < 16; i += P) write(16 + i, out + 8 + i);
}

/// Where not all is finite, codes are zeros and the scale is not finite, so that no result is.
void quantize_row(const float* x, std::int64_t n, int block, const QuantizedRow& to) {
  const int columns = block == 256 ? V::kScaleColumns : 32, width = tile_columns(block);
  for (std::int64_t begin = 0; begin < n; begin += 256) {
    const std::int64_t end = min64(n, begin + 256), first = begin / columns;
    alignas(64) float tops[16] = {}, inverses[16] = {}, scales[16] = {};
    for (std::int64_t c = begin; c < end; c += columns) tops[(c - begin) / columns] = largest_size(x + c, columns);
    for (int i = 0; i < 8; i += P) {
      V::store(inverses + i, inverse_of(V::load(tops + i), 127));
      V::store(scales + i, V::div(V::load(tops + i), V::set1(127)));
    }
    for (std::int64_t i = 0; i < (end - begin) / columns; ++i) to.scales[(first + i) * to.tile] = scales[i];
    const auto codes = [&](std::int64_t c) {
      return to.codes + (to.tile == 1 ? c : c / width * width * to.tile + c % width);
    };
    for (std::int64_t c = begin; c < end; c += 16) {
      const std::int64_t i = (c - begin) / columns;
      const bool finite = tops[i] < kInfinity;
      for (int lane = 0; lane < 16; lane += P)
        V::store_i8(codes(c) + lane, finite ? to_whole(V::load(x + c + lane), inverses[i]) : V::zero());
    }
    for (std::int64_t c = begin; c < end; c += 16)
      to.sums[c / 32 * 2 * to.tile + c / 16 % 2] = static_cast<std::int16_t>(V::sum_codes(codes(c)));
  }
  if (block == 256 && to.minimum_sums)  // later, because they read several of what was written one by one
    for (std::int64_t b = 0; b < n / 256; ++b)
      write_minimum_sums(to.sums + b * 16, to.scales + b * 8, to.minimum_sums + b * kMinimumSums,
                         to.minimum_scales + b);
}

}  // namespace
}  // namespace llorch::kernel
