// Loops of one instruction, and of reading, for rooflines. A part of body.h.
#pragma once

namespace llorch::kernel {
namespace {

/// Keeps a vector in a register, and its value unknown to the compiler.
template<class T>
inline void hide(T& v) {
  if constexpr (V::kEmulated)
    asm volatile("" : "+m"(v));
  else
#if defined(__x86_64__)
    asm volatile("" : "+v"(v));
#else
    asm volatile("" : "+w"(v));
#endif
}

constexpr int kChains = 12;  // independent sums: more than latency times throughput

double peak_int8(std::int64_t rounds) {
  const std::uint8_t ones[4 * P] = {1, 1, 1};
  B a = V::bytes(ones), b = V::bytes(ones);
  I sums[kChains];
  for (I& s : sums) s = V::set1i(0);
  for (std::int64_t i = 0; i < rounds; ++i) {
    hide(a), hide(b);
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = V::dot(sums[c], a, b);
  }
  for (I& s : sums) hide(s);
  return 2.0 * 4 * P * kChains * static_cast<double>(rounds);
}

double peak_fp32(std::int64_t rounds) {
  F a = V::set1(0.5f), b = V::set1(0.25f), sums[kChains];
  for (F& s : sums) s = V::zero();
  for (std::int64_t i = 0; i < rounds; ++i) {
    hide(a), hide(b);
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = V::fma(a, b, sums[c]);
  }
  for (F& s : sums) hide(s);
  return 2.0 * P * kChains * static_cast<double>(rounds);
}

std::uint32_t read(const std::uint8_t* p, std::int64_t bytes, int streams, bool ahead) {
  const std::int64_t part = bytes / streams / 256 * 256;
  I sums[4];
  for (I& s : sums) s = V::set1i(0);
  for (std::int64_t at = 0; at < part; at += 256)
    for (int s = 0; s < streams; ++s) {
      if (ahead)
        for (int i = 0; i < 256; i += 64) __builtin_prefetch(p + s * part + at + kAhead + i);
      for (int i = 0; i < 256; i += 4 * P) {
        I& sum = sums[i / (4 * P) % 4];
        sum = V::dot(sum, V::bytes(p + s * part + at + i), V::bytes(p + s * part + at + i));
      }
    }
  float buffer[P];
  std::uint32_t out = 0;
  for (const I& s : sums) {
    V::store(buffer, V::to_float(s));
    out += static_cast<std::uint32_t>(buffer[0]);
  }
  return out;
}

}  // namespace
}  // namespace llorch::kernel
