// Vectors of AVX-512 (F, BW, VL, DQ) with VNNI: 16 lanes, one instruction for four int8 products per lane.
#pragma once

#include <immintrin.h>

#include <cstdint>

#ifndef LLORCH_SCALE_COLUMNS
#define LLORCH_SCALE_COLUMNS 32
#endif

namespace llorch::kernel {
namespace {

struct V {
  static constexpr const char* kName = "avx512";
  static constexpr int P = 16, kRowTile = 6, kQueryTile = 6;
  static constexpr int kScaleColumns = LLORCH_SCALE_COLUMNS;  // of activations for weights in blocks of 256
  static constexpr bool kEmulated = false;
  static constexpr bool kDotSigned = false, kDotPairs = true, kDotJoined = false;
  using F = __m512;
  using I = __m512i;
  using B = __m512i;

  static F zero() { return _mm512_setzero_ps(); }
  static F set1(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F a) { _mm512_storeu_ps(p, a); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F abs(F a) { return _mm512_abs_ps(a); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F pow2(F n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
  }
  static F select_less(F a, F b, F yes, F no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
  }
  /// The larger of sizes, as whole numbers: a NaN is larger than all others.
  static F larger_size(F a, F b) {
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
  }
  static float largest_size(F a) { return __builtin_bit_cast(float, _mm512_reduce_max_epi32(_mm512_castps_si512(a))); }
  static __m256 upper(F a) { return _mm512_extractf32x8_ps(a, 1); }
  static float sum(F a) {
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), upper(a));
    __m128 r = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    r = _mm_add_ps(r, _mm_movehl_ps(r, r));
    return _mm_cvtss_f32(_mm_add_ss(r, _mm_movehdup_ps(r)));
  }
  static float maximum(F a) {
    const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a), upper(a));
    __m128 r = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    r = _mm_max_ps(r, _mm_movehl_ps(r, r));
    return _mm_cvtss_f32(_mm_max_ss(r, _mm_movehdup_ps(r)));
  }

  static __m128i load128(const std::uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static __m256i load256(const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static float half_at(const std::uint8_t* p) {
    std::uint16_t h;
    __builtin_memcpy(&h, p, 2);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
  }
  static void store_half_at(std::uint8_t* p, float x) {
    const auto h =
        static_cast<std::uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT)));
    __builtin_memcpy(p, &h, 2);
  }
  static void store_half(std::uint8_t* p, F a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }
  static void store_i8(std::int8_t* p, F a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
  }
  static F load_i16(const std::int16_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(load256(reinterpret_cast<const std::uint8_t*>(p))));
  }
  static void store_i16(std::int16_t* p, F a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a)));
  }
  /// Of 16 codes.
  static int sum_codes(const std::int8_t* p) {
    const __m128i c = _mm_xor_si128(load128(reinterpret_cast<const std::uint8_t*>(p)), _mm_set1_epi8(-128));
    const __m128i two = _mm_sad_epu8(c, _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_unpackhi_epi64(two, two))) - 16 * 128;
  }
  static F load_half(const std::uint8_t* p) { return _mm512_cvtph_ps(load256(p)); }
  static F load_bfloat(const std::uint8_t* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load256(p)), 16));
  }
  static F load_i8(const std::uint8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load128(p))); }
  static F load_e8m0_halved(const std::uint8_t* p) {
    const I e = _mm512_cvtepu8_epi32(load128(p));
    const I normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const I subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    return _mm512_castsi512_ps(
        _mm512_mask_blend_epi32(_mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)), normal, subnormal));
  }

  static I ints_u8(const std::uint8_t* p) { return _mm512_cvtepu8_epi32(load128(p)); }
  static I ints_i8(const std::uint8_t* p) { return _mm512_cvtepi8_epi32(load128(p)); }
  /// Two int16 in each lane, from two bytes.
  static I pairs_u8(const std::uint8_t* p) { return _mm512_cvtepu8_epi16(load256(p)); }
  static I pairs_i8(const std::uint8_t* p) { return _mm512_cvtepi8_epi16(load256(p)); }
  static I pairs_low_nibble(const std::uint8_t* p) { return _mm512_and_si512(pairs_u8(p), _mm512_set1_epi16(15)); }
  static I pairs_high_nibble(const std::uint8_t* p) { return _mm512_srli_epi16(pairs_u8(p), 4); }
  static I low_of_pairs(I pairs) { return _mm512_srai_epi32(_mm512_slli_epi32(pairs, 16), 16); }
  static I low_unsigned(I pairs) { return _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff)); }
  static I high_of_pairs(I pairs) { return _mm512_srai_epi32(pairs, 16); }
  static I mul_pairs(I pairs, int factor) {
    return _mm512_mullo_epi16(pairs, _mm512_set1_epi16(static_cast<short>(factor)));
  }
  static I dot_pairs(I sum, I a, I b) { return _mm512_dpwssd_epi32(sum, a, b); }
  static I add_ints(I a, I b) { return _mm512_add_epi32(a, b); }
  static I mul_ints(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static I set1i(int x) { return _mm512_set1_epi32(x); }
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static B bytes(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  static void store_bytes(std::uint8_t* p, B a) { _mm512_storeu_si512(p, a); }
  static B broadcast4(const std::int8_t* p) {
    std::int32_t four;
    __builtin_memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
  }
  static B low_nibble(B a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
  static B high_nibble(B a) { return low_nibble(_mm512_srli_epi16(a, 4)); }
  static B pair(B a, int j) {
    return _mm512_and_si512(_mm512_srli_epi16(a, static_cast<unsigned>(2 * j)), _mm512_set1_epi8(3));
  }
  /// Adds the bits of `mask` that `from` has in its bytes so far lower.
  static B or_field(B low, B from, int lower, int mask) {
    const B there = lower < 0   ? _mm512_srli_epi16(from, static_cast<unsigned>(-lower))
                    : lower > 0 ? _mm512_slli_epi16(from, static_cast<unsigned>(lower))
                                : from;
    return _mm512_or_si512(low, _mm512_and_si512(there, _mm512_set1_epi8(static_cast<char>(mask))));
  }
  static B lookup(const std::uint8_t* table, B index) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(table)), index);
  }
  static I dot(I sum, B u, B s) { return _mm512_dpbusd_epi32(sum, u, s); }
  static I dot_wide(I sum, B u, B s) { return _mm512_dpbusd_epi32(sum, u, s); }
};

}  // namespace
}  // namespace llorch::kernel
