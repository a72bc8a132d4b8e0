// CUDA's scalar functions for the host. Functions of <cmath> (expf, fmaf, ...) are the host's own: their last bits may
// differ from a GPU's.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>

using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;

// Each operation rounds once, to nearest even: the library is compiled without contraction.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float rsqrtf(float a) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(a))); }
inline float __saturatef(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; }  // 0 for a NaN

inline int __float_as_int(float a) { return std::bit_cast<int>(a); }
inline unsigned __float_as_uint(float a) { return std::bit_cast<unsigned>(a); }
inline float __int_as_float(int a) { return std::bit_cast<float>(a); }
inline float __uint_as_float(unsigned a) { return std::bit_cast<float>(a); }

namespace llorch::cuda::host {
/// Float to integer as a GPU does it: saturated, 0 for a NaN.
template<class T>
T saturated(float a, double lowest, double highest) {
  return a != a ? T{0} : static_cast<T>(a < lowest ? lowest : a > highest ? highest : static_cast<double>(a));
}
inline int to_int(float a) { return saturated<int>(a, -2147483648.0, 2147483647.0); }
inline unsigned to_unsigned(float a) { return saturated<unsigned>(a, 0.0, 4294967295.0); }
}  // namespace llorch::cuda::host

inline int __float2int_rn(float a) { return llorch::cuda::host::to_int(std::nearbyint(a)); }
inline int __float2int_rz(float a) { return llorch::cuda::host::to_int(std::trunc(a)); }
inline int __float2int_rd(float a) { return llorch::cuda::host::to_int(std::floor(a)); }
inline int __float2int_ru(float a) { return llorch::cuda::host::to_int(std::ceil(a)); }
inline unsigned __float2uint_rn(float a) { return llorch::cuda::host::to_unsigned(std::nearbyint(a)); }
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline float __uint2float_rn(unsigned a) { return static_cast<float>(a); }

inline int __popc(unsigned a) { return std::popcount(a); }
inline int __popcll(unsigned long long a) { return std::popcount(a); }
inline int __ffs(int a) { return a == 0 ? 0 : std::countr_zero(static_cast<unsigned>(a)) + 1; }
inline int __clz(int a) { return std::countl_zero(static_cast<unsigned>(a)); }
inline int __clzll(long long a) { return std::countl_zero(static_cast<unsigned long long>(a)); }
inline unsigned __brev(unsigned a) {
  unsigned out = 0;
  for (int bit = 0; bit < 32; ++bit) out |= ((a >> bit) & 1) << (31 - bit);
  return out;
}
/// Four bytes out of the eight of a (low) and b; bit 3 of a selector repeats the sign of its byte.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selectors) {
  const std::uint64_t bytes = (static_cast<std::uint64_t>(b) << 32) | a;
  unsigned out = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned selector = selectors >> (4 * i), byte = static_cast<unsigned>(bytes >> (8 * (selector & 7))) & 0xff;
    out |= ((selector & 8) ? (byte & 0x80 ? 0xffu : 0u) : byte) << (8 * i);
  }
  return out;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<std::uint64_t>(high) << 32) | low) >> (shift & 31));
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((std::uint64_t{a} * b) >> 32); }

/// c + the sum of four products of bytes, modulo 2^32.
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 32; i += 8) c += ((a >> i) & 0xff) * ((b >> i) & 0xff);
  return c;
}
inline int __dp4a(int a, int b, int c) {
  unsigned sum = static_cast<unsigned>(c);
  for (int i = 0; i < 32; i += 8)
    sum += static_cast<unsigned>(int{static_cast<signed char>(a >> i)} * static_cast<signed char>(b >> i));
  return static_cast<int>(sum);
}

#define LLORCH_MIN_MAX(T)                             \
  constexpr T min(T a, T b) { return b < a ? b : a; } \
  constexpr T max(T a, T b) { return a < b ? b : a; }
LLORCH_MIN_MAX(int)
LLORCH_MIN_MAX(unsigned)
LLORCH_MIN_MAX(long)
LLORCH_MIN_MAX(unsigned long)
LLORCH_MIN_MAX(long long)
LLORCH_MIN_MAX(unsigned long long)
#undef LLORCH_MIN_MAX
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
