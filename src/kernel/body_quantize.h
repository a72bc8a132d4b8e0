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
/// What turns values up to `top` into whole numbers up to `most`. Sizes below 2^-100 are zeros: their inverse
/// overflows.
inline float inverse_of(float top, float most) { return top < 0x1p-100f ? 0 : most / top; }
/// The nearest whole number, halves to even; the limits are for what is not a number.
inline F to_whole(F x, float inverse, float most) {
  return V::min(V::max(V::round(V::mul(x, V::set1(inverse))), V::set1(-most)), V::set1(most));
}

/// What minimums are multiplied by: of 256 columns, the sums of every 32 and of every 16, as int16 under one scale.
inline void write_minimum_sums(const std::int16_t* sums, const float* scales, std::int16_t* out, float* out_scale) {
  float values[32] = {};
  for (int i = 0; i < 16; ++i) values[8 + i] = scales[i / 2] * static_cast<float>(sums[i]);
  for (int i = 0; i < 8; ++i) values[i] = scales[i] * static_cast<float>(sums[2 * i] + sums[2 * i + 1]);
  constexpr float kMost = 32767;
  const float top = largest_size(values, 32), inverse = inverse_of(top, kMost);
  for (int i = 0; i < 32; i += P) V::store(values + i, to_whole(V::load(values + i), inverse, kMost));
  for (int i = 0; i < kMinimumSums; ++i) out[i] = static_cast<std::int16_t>(values[i]);
  *out_scale = -top / kMost;
}

void quantize_row(const float* x, std::int64_t n, int block, const QuantizedRow& to) {
  const int columns = block == 256 ? V::kScaleColumns : 32, width = tile_columns(block);
  float* scales = to.scales;
  for (std::int64_t begin = 0; begin < n; begin += columns, scales += to.tile) {
    const float top = largest_size(x + begin, columns), inverse = inverse_of(top, 127);
    *scales = top / 127;
    for (std::int64_t c = begin; c < begin + columns; c += 16) {
      std::int8_t* codes = to.codes + (to.tile == 1 ? c : c / width * width * to.tile + c % width);
      F total = V::zero();  // whole numbers: exact
      for (int i = 0; i < 16; i += P) {
        const F rounded = to_whole(V::load(x + c + i), inverse, 127);
        V::store_i8(codes + i, rounded);
        total = V::add(total, rounded);
      }
      to.sums[c / 32 * 2 * to.tile + c / 16 % 2] = static_cast<std::int16_t>(V::sum(total));
    }
  }
  if (block == 256 && to.minimum_sums)
    for (std::int64_t b = 0; b < n / 256; ++b)
      write_minimum_sums(to.sums + b * 16, to.scales + b * 8, to.minimum_sums + b * kMinimumSums,
                         to.minimum_scales + b);
}

}  // namespace
}  // namespace llorch::kernel
