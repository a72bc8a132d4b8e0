// Sums over the values of a row, and norms. A part of body.h.
#pragma once

namespace llorch::kernel {
namespace {

/// Sums and maxima over values that stand side by side have 16 lanes on every ISA: value i belongs to lane i % 16, and
/// the lanes are joined 8 apart, then 4, 2, 1 (V::sum() and V::maximum() do what is left of that in one vector).
constexpr int kWide = 16 / P;
inline float join_sums(F* lanes) {
  for (int width = kWide / 2; width > 0; width /= 2)
    for (int j = 0; j < width; ++j) lanes[j] = V::add(lanes[j], lanes[j + width]);
  return V::sum(lanes[0]);
}
inline float join_maxima(F* lanes) {
  for (int width = kWide / 2; width > 0; width /= 2)
    for (int j = 0; j < width; ++j) lanes[j] = V::max(lanes[j], lanes[j + width]);
  return V::maximum(lanes[0]);
}

template<class Op>
inline float sum_of(std::int64_t n, const Op& op) {
  F total[kWide];
  for (F& lanes : total) lanes = V::zero();
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < kWide; ++j)
      total[j] = V::add(total[j], op([&](const float* p) { return V::load(p + i + j * P); }));
  for (int j = 0; i < n; i += P, ++j) {
    const std::int64_t count = min64(P, n - i);
    float buffer[P], kept[P] = {};
    V::store(buffer, op([&](const float* p) { return load_tail(p + i, count); }));
    for (std::int64_t lane = 0; lane < count; ++lane) kept[lane] = buffer[lane];
    total[j] = V::add(total[j], V::load(kept));
  }
  return join_sums(total);
}

bool rms_norm(const float* x, const float* weight, std::int64_t n, float eps, float* out) {
  const float squares = sum_of(n, [&](auto at) { return V::mul(at(x), at(x)); });
  const float scale = 1.0f / __builtin_sqrtf(squares / static_cast<float>(n) + eps) + squares * 0;
  return map_finite(n, out, [&](auto at) { return V::mul(V::mul(at(x), V::set1(scale)), at(weight)); });
}

bool layer_norm(const float* x, const float* weight, const float* bias, std::int64_t n, float eps, float* out) {
  const float mean = sum_of(n, [&](auto at) { return at(x); }) / static_cast<float>(n);
  const float variance = sum_of(n,
                                [&](auto at) {
                                  const F d = V::sub(at(x), V::set1(mean));
                                  return V::mul(d, d);
                                }) /
                         static_cast<float>(n);
  const float scale = 1.0f / __builtin_sqrtf(variance + eps) + variance * 0;
  return map_finite(n, out, [&](auto at) {
    return V::fma(V::mul(V::sub(at(x), V::set1(mean)), V::set1(scale)), at(weight), at(bias));
  });
}

}  // namespace
}  // namespace llorch::kernel
