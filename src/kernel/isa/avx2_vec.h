// Vectors of AVX2 with FMA and F16C: 8 lanes.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace llorch::kernel {
namespace {

struct V {
  static constexpr const char* kName = "avx2";
  static constexpr int P = 8, kRowTile = 4, kQueryTile = 2;
  static constexpr int kScaleColumns = 32;  // of activations for weights in blocks of 256
  static constexpr bool kEmulated = false;
  static constexpr bool kDotSigned = true, kDotPairs = false, kDotJoined = true;
  using F = __m256;
  using I = __m256i;
  using B = __m256i;

  static F zero() { return _mm256_setzero_ps(); }
  static F set1(float x) { return _mm256_set1_ps(x); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F a) { _mm256_storeu_ps(p, a); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F pow2(F n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
  }
  static F select_less(F a, F b, F yes, F no) { return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
  static float sum(F a) {
    __m128 r = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    r = _mm_add_ps(r, _mm_movehl_ps(r, r));
    return _mm_cvtss_f32(_mm_add_ss(r, _mm_movehdup_ps(r)));
  }
  /// The larger of sizes, as whole numbers: a NaN is larger than all others.
  static F larger_size(F a, F b) {
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
  }
  static float largest_size(F a) {
    const I i = _mm256_castps_si256(a);
    __m128i r = _mm_max_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    r = _mm_max_epi32(r, _mm_shuffle_epi32(r, 0x4e));
    r = _mm_max_epi32(r, _mm_shuffle_epi32(r, 0xb1));
    return __builtin_bit_cast(float, _mm_cvtsi128_si32(r));
  }
  static float maximum(F a) {
    __m128 r = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    r = _mm_max_ps(r, _mm_movehl_ps(r, r));
    return _mm_cvtss_f32(_mm_max_ss(r, _mm_movehdup_ps(r)));
  }

  static __m128i load128(const std::uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static __m128i load64(const std::uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
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
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }
  static void store_i8(std::int8_t* p, F a) {
    const I whole = _mm256_cvtps_epi32(a);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
  }
  static F load_i16(const std::int16_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(load128(reinterpret_cast<const std::uint8_t*>(p))));
  }
  static void store_i16(std::int16_t* p, F a) {
    const I whole = _mm256_cvtps_epi32(a);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
  }
  /// Of 16 codes.
  static int sum_codes(const std::int8_t* p) {
    const __m128i c = _mm_xor_si128(load128(reinterpret_cast<const std::uint8_t*>(p)), _mm_set1_epi8(-128));
    const __m128i two = _mm_sad_epu8(c, _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_unpackhi_epi64(two, two))) - 16 * 128;
  }
  static F load_half(const std::uint8_t* p) { return _mm256_cvtph_ps(load128(p)); }
  static F load_bfloat(const std::uint8_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(p)), 16));
  }
  static F load_i8(const std::uint8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load64(p))); }
  static F load_e8m0_halved(const std::uint8_t* p) {
    const I e = _mm256_cvtepu8_epi32(load64(p));
    const I normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const I subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
  }

  static I ints_u8(const std::uint8_t* p) { return _mm256_cvtepu8_epi32(load64(p)); }
  static I ints_i8(const std::uint8_t* p) { return _mm256_cvtepi8_epi32(load64(p)); }
  /// Two int16 in each lane, from two bytes.
  static I pairs_u8(const std::uint8_t* p) { return _mm256_cvtepu8_epi16(load128(p)); }
  static I pairs_i8(const std::uint8_t* p) { return _mm256_cvtepi8_epi16(load128(p)); }
  static I pairs_low_nibble(const std::uint8_t* p) { return _mm256_and_si256(pairs_u8(p), _mm256_set1_epi16(15)); }
  static I pairs_high_nibble(const std::uint8_t* p) { return _mm256_srli_epi16(pairs_u8(p), 4); }
  static I low_of_pairs(I pairs) { return _mm256_srai_epi32(_mm256_slli_epi32(pairs, 16), 16); }
  static I low_unsigned(I pairs) { return _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff)); }
  static I high_of_pairs(I pairs) { return _mm256_srai_epi32(pairs, 16); }
  /// One of a pair in both places.
  static I low_twice(I pairs) { return shuffle_lanes(pairs, 0x01000100); }
  static I high_twice(I pairs) { return shuffle_lanes(pairs, 0x03020302); }
  /// The same four bytes of each lane.
  static I shuffle_lanes(I a, int from) {
    return _mm256_shuffle_epi8(
        a, _mm256_add_epi32(_mm256_set1_epi32(from), _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0,
                                                                       0x04040404, 0x08080808, 0x0c0c0c0c)));
  }
  static I mul_pairs(I pairs, int factor) {
    return _mm256_mullo_epi16(pairs, _mm256_set1_epi16(static_cast<short>(factor)));
  }
  static I dot_pairs(I sum, I a, I b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
  static I add_ints(I a, I b) { return _mm256_add_epi32(a, b); }
  static I mul_ints(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static I set1i(int x) { return _mm256_set1_epi32(x); }
  static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
  static B bytes(const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static void store_bytes(std::uint8_t* p, B a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
  static B broadcast4(const std::int8_t* p) {
    std::int32_t four;
    __builtin_memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
  }
  static B low_nibble(B a) { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
  static B high_nibble(B a) { return low_nibble(_mm256_srli_epi16(a, 4)); }
  static B pair(B a, int j) { return _mm256_and_si256(_mm256_srli_epi16(a, 2 * j), _mm256_set1_epi8(3)); }
  /// Adds the bits of `mask` that `from` has in its bytes so far lower.
  static B or_field(B low, B from, int lower, int mask) {
    const B there = lower < 0 ? _mm256_srli_epi16(from, -lower) : lower > 0 ? _mm256_slli_epi16(from, lower) : from;
    return _mm256_or_si256(low, _mm256_and_si256(there, _mm256_set1_epi8(static_cast<char>(mask))));
  }
  static B lookup(const std::uint8_t* table, B index) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load128(table)), index);
  }
  /// Codes below 128: pairs of products stay below 2^15.
  static I dot(I sum, B u, B s) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
  }
  /// dot() in three steps, for several at a time while their pairs stay below 2^15.
  static B pair_products(B u, B s) { return _mm256_maddubs_epi16(u, s); }
  static B add_pair_products(B a, B b) { return _mm256_add_epi16(a, b); }
  static I add_joined(I sum, B pairs, I factor) { return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, factor)); }
  /// Codes up to 255, 128 standing for zero: their sizes times activations that take their signs. 2 * 128 * 127 fits 15
  /// bits.
  static I dot_signed(I sum, B u, B s) {
    const I w = _mm256_xor_si256(u, _mm256_set1_epi8(static_cast<char>(128)));
    return dot(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(s, w));
  }
  /// Codes up to 255: even and odd bytes are widened to 16 bits.
  static I dot_wide(I sum, B u, B s) {
    const I u_even = _mm256_and_si256(u, _mm256_set1_epi16(255)), u_odd = _mm256_srli_epi16(u, 8);
    const I s_even = _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8), s_odd = _mm256_srai_epi16(s, 8);
    return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(u_even, s_even), _mm256_madd_epi16(u_odd, s_odd)));
  }
};

}  // namespace
}  // namespace llorch::kernel
