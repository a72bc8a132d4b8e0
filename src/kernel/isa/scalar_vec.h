// Vectors of the scalar ISA: plain arrays. Units for tests have other numbers of lanes: no result depends on that.
#pragma once

#ifndef LLORCH_SCALAR_LANES
#define LLORCH_SCALAR_LANES 8
#define LLORCH_SCALAR_NAME "scalar"
#endif

#include <cstdint>

namespace llorch::kernel {
namespace {

struct V {
  static constexpr const char* kName = LLORCH_SCALAR_NAME;
  static constexpr bool kDotSigned = false, kDotPairs = false, kDotJoined = false;
  static constexpr int P = LLORCH_SCALAR_LANES, kRowTile = 4, kQueryTile = 2;
  static constexpr int kScaleColumns = 32;  // of activations for weights in blocks of 256
  static constexpr bool kEmulated = true;
  struct F {
    float v[P];
  };
  struct I {
    std::int32_t v[P];
  };
  struct B {
    std::uint8_t v[4 * P];
  };

  template<class Op>
  static F lanes(const Op& op) {
    F r;
    for (int i = 0; i < P; ++i) r.v[i] = op(i);
    return r;
  }
  template<class Op>
  static B each(const Op& op) {
    B r;
    for (int i = 0; i < 4 * P; ++i) r.v[i] = static_cast<std::uint8_t>(op(i));
    return r;
  }

  static F zero() { return set1(0); }
  static F set1(float x) {
    return lanes([&](int) { return x; });
  }
  static F load(const float* p) {
    return lanes([&](int i) { return p[i]; });
  }
  static void store(float* p, F a) {
    for (int i = 0; i < P; ++i) p[i] = a.v[i];
  }
  static F add(F a, F b) {
    return lanes([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F sub(F a, F b) {
    return lanes([&](int i) { return a.v[i] - b.v[i]; });
  }
  static F mul(F a, F b) {
    return lanes([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F div(F a, F b) {
    return lanes([&](int i) { return a.v[i] / b.v[i]; });
  }
  static F min(F a, F b) {
    return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F max(F a, F b) {
    return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F abs(F a) {
    return lanes([&](int i) { return __builtin_fabsf(a.v[i]); });
  }
  static F fma(F a, F b, F c) {
    return lanes([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
  }
  static F round(F a) {
    return lanes([&](int i) { return __builtin_rintf(a.v[i]); });
  }
  static F pow2(F n) {
    return lanes([&](int i) {
      const auto bits = static_cast<std::uint32_t>(static_cast<std::int32_t>(n.v[i]) + 127) << 23;
      return __builtin_bit_cast(float, bits);
    });
  }
  static F select_less(F a, F b, F yes, F no) {
    return lanes([&](int i) { return a.v[i] < b.v[i] ? yes.v[i] : no.v[i]; });
  }
  static float sum(F a) {
    for (int width = P / 2; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
    return a.v[0];
  }
  static float maximum(F a) {
    for (int width = P / 2; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) a.v[i] = a.v[i] > a.v[i + width] ? a.v[i] : a.v[i + width];
    return a.v[0];
  }
  /// The larger of sizes, as whole numbers: a NaN is larger than all others.
  static F larger_size(F a, F b) {
    return lanes([&](int i) {
      return __builtin_bit_cast(std::int32_t, a.v[i]) > __builtin_bit_cast(std::int32_t, b.v[i]) ? a.v[i] : b.v[i];
    });
  }
  static float largest_size(F a) {
    for (int i = 1; i < P; ++i) a = larger_size(a, set1(a.v[i]));
    return a.v[0];
  }

  static float half_at(const std::uint8_t* p) {
    std::uint16_t h;
    __builtin_memcpy(&h, p, 2);
    const std::uint32_t sign = (h & 0x8000u) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3ffu;
    if (exponent == 31)  // a NaN becomes quiet, and keeps the rest
      return __builtin_bit_cast(float, sign | 0x7f800000u | (mantissa ? 0x400000u : 0u) | mantissa << 13);
    if (exponent) return __builtin_bit_cast(float, sign | (exponent + 112) << 23 | mantissa << 13);
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  static void store_half_at(std::uint8_t* p, float value) {
    const auto bits = __builtin_bit_cast(std::uint32_t, value);
    const std::uint32_t sign = (bits >> 16) & 0x8000u, rest = bits & 0x7fffffffu;
    std::uint32_t h;
    if (rest >= 0x7f800000u)
      h = 0x7c00u | (rest > 0x7f800000u ? 0x200u | (rest >> 13 & 0x3ffu) : 0u);
    else if (rest >= 0x477ff000u)
      h = 0x7c00u;
    else if (rest < 0x38800000u)
      h = __builtin_bit_cast(std::uint32_t, __builtin_bit_cast(float, rest) + 0.5f) - 0x3f000000u;
    else
      h = (rest + 0xfffu + ((rest >> 13) & 1u) - 0x38000000u) >> 13;
    const auto result = static_cast<std::uint16_t>(sign | h);
    __builtin_memcpy(p, &result, 2);
  }
  static void store_half(std::uint8_t* p, F a) {
    for (int i = 0; i < P; ++i) store_half_at(p + 2 * i, a.v[i]);
  }
  static void store_i8(std::int8_t* p, F a) {
    float values[P];
    store(values, a);
    for (int i = 0; i < P; ++i) p[i] = static_cast<std::int8_t>(values[i]);
  }
  static F load_i16(const std::int16_t* p) {
    return lanes([&](int i) { return static_cast<float>(p[i]); });
  }
  static void store_i16(std::int16_t* p, F a) {
    for (int i = 0; i < P; ++i) p[i] = static_cast<std::int16_t>(a.v[i]);
  }
  /// Of 16 codes.
  static int sum_codes(const std::int8_t* p) {
    int sum = 0;
    for (int i = 0; i < 16; ++i) sum += p[i];
    return sum;
  }
  static F load_half(const std::uint8_t* p) {
    return lanes([&](int i) { return half_at(p + 2 * i); });
  }
  static F load_bfloat(const std::uint8_t* p) {
    return lanes([&](int i) {
      return __builtin_bit_cast(float, static_cast<std::uint32_t>(p[2 * i] | p[2 * i + 1] << 8) << 16);
    });
  }
  static F load_i8(const std::uint8_t* p) {
    return lanes([&](int i) { return static_cast<float>(static_cast<std::int8_t>(p[i])); });
  }
  static F load_e8m0_halved(const std::uint8_t* p) {
    return lanes([&](int i) {
      const std::uint32_t e = p[i];
      return __builtin_bit_cast(float, e < 2 ? 0x00200000u << e : (e - 1) << 23);
    });
  }

  template<class Op>
  static I ints(const Op& op) {
    I r;
    for (int i = 0; i < P; ++i) r.v[i] = op(i);
    return r;
  }
  static I ints_u8(const std::uint8_t* p) {
    return ints([&](int i) { return std::int32_t{p[i]}; });
  }
  static I ints_i8(const std::uint8_t* p) {
    return ints([&](int i) { return std::int32_t{static_cast<std::int8_t>(p[i])}; });
  }
  /// Two int16 in each lane, from two bytes.
  template<class Op>
  static I pairs(const std::uint8_t* p, const Op& op) {
    return ints([&](int i) {
      return static_cast<std::int32_t>((static_cast<std::uint32_t>(op(p[2 * i])) & 0xffffu) |
                                       static_cast<std::uint32_t>(op(p[2 * i + 1])) << 16);
    });
  }
  static I pairs_u8(const std::uint8_t* p) {
    return pairs(p, [](std::uint8_t b) { return int{b}; });
  }
  static I pairs_i8(const std::uint8_t* p) {
    return pairs(p, [](std::uint8_t b) { return int{static_cast<std::int8_t>(b)}; });
  }
  static I pairs_low_nibble(const std::uint8_t* p) {
    return pairs(p, [](std::uint8_t b) { return b & 15; });
  }
  static I pairs_high_nibble(const std::uint8_t* p) {
    return pairs(p, [](std::uint8_t b) { return b >> 4; });
  }
  static I low_of_pairs(I pairs) {
    return ints([&](int i) { return int{static_cast<std::int16_t>(pairs.v[i])}; });
  }
  static I low_unsigned(I pairs) {
    return ints([&](int i) { return pairs.v[i] & 0xffff; });
  }
  static I high_of_pairs(I pairs) {
    return ints([&](int i) { return pairs.v[i] >> 16; });
  }
  static I dot_pairs(I sum, I a, B b) {
    return ints([&](int i) {
      std::int16_t pair[2];
      __builtin_memcpy(pair, b.v + 4 * i, 4);
      return sum.v[i] + static_cast<std::int16_t>(a.v[i]) * pair[0] + (a.v[i] >> 16) * pair[1];
    });
  }
  static I add_ints(I a, I b) {
    return ints([&](int i) { return a.v[i] + b.v[i]; });
  }
  static I mul_ints(I a, I b) {
    return ints([&](int i) { return a.v[i] * b.v[i]; });
  }
  static I set1i(int x) {
    I r;
    for (int i = 0; i < P; ++i) r.v[i] = x;
    return r;
  }
  static F to_float(I a) {
    return lanes([&](int i) { return static_cast<float>(a.v[i]); });
  }
  static B bytes(const std::uint8_t* p) {
    return each([&](int i) { return p[i]; });
  }
  static void store_bytes(std::uint8_t* p, B a) { __builtin_memcpy(p, &a, sizeof a); }
  static B broadcast4(const std::int8_t* p) {
    return each([&](int i) { return static_cast<std::uint8_t>(p[i % 4]); });
  }
  static B low_nibble(B a) {
    return each([&](int i) { return a.v[i] & 15; });
  }
  static B high_nibble(B a) {
    return each([&](int i) { return a.v[i] >> 4; });
  }
  static B pair(B a, int j) {
    return each([&](int i) { return a.v[i] >> (2 * j) & 3; });
  }
  /// Adds the bits of `mask` that `from` has in its bytes so far lower.
  static B or_field(B low, B from, int lower, int mask) {
    return each([&](int i) { return low.v[i] | ((lower < 0 ? from.v[i] >> -lower : from.v[i] << lower) & mask); });
  }
  static B lookup(const std::uint8_t* table, B index) {
    return each([&](int i) { return table[index.v[i]]; });
  }
  static I dot(I sum, B u, B s) {
    for (int i = 0; i < 4 * P; ++i) sum.v[i / 4] += u.v[i] * static_cast<std::int8_t>(s.v[i]);
    return sum;
  }
  static I dot_wide(I sum, B u, B s) { return dot(sum, u, s); }
};

}  // namespace
}  // namespace llorch::kernel
