// Vectors of NEON with dot products: 4 lanes. LLORCH_NEON_I8MM selects the mixed-sign dot product of the i8mm
// extension.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace llorch::kernel {
namespace {

struct V {
#ifdef LLORCH_NEON_I8MM
  static constexpr const char* kName = "neon_i8mm";
#else
  static constexpr const char* kName = "neon";
#endif
  static constexpr int P = 4, kRowTile = 4, kQueryTile = 6;
  static constexpr int kScaleColumns = 32;  // of activations for weights in blocks of 256
  static constexpr bool kEmulated = false;
  static constexpr bool kDotSigned = false, kDotPairs = false, kDotJoined = false;
  using F = float32x4_t;
  using I = int32x4_t;
  using B = uint8x16_t;

  static F zero() { return vdupq_n_f32(0); }
  static F set1(float x) { return vdupq_n_f32(x); }
  static F load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, F a) { vst1q_f32(p, a); }
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F sub(F a, F b) { return vsubq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F div(F a, F b) { return vdivq_f32(a, b); }
  /// As on other machines: the second operand where one is NaN, or both are zeros.
  static F min(F a, F b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static F max(F a, F b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static F abs(F a) { return vabsq_f32(a); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F round(F a) { return vrndnq_f32(a); }
  static F pow2(F n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23)); }
  static F select_less(F a, F b, F yes, F no) { return vbslq_f32(vcltq_f32(a, b), yes, no); }
  static float sum(F a) {
    const float32x2_t r = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(r, 0) + vget_lane_f32(r, 1);
  }
  static float maximum(F a) {
    const F halves = max(a, vextq_f32(a, a, 2));
    return vgetq_lane_f32(max(halves, vextq_f32(halves, halves, 1)), 0);
  }
  /// The larger of sizes, as whole numbers: a NaN is larger than all others.
  static F larger_size(F a, F b) {
    return vreinterpretq_f32_u32(vmaxq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
  }
  static float largest_size(F a) { return __builtin_bit_cast(float, vmaxvq_u32(vreinterpretq_u32_f32(a))); }

  static float half_at(const std::uint8_t* p) {
    __fp16 h;
    __builtin_memcpy(&h, p, 2);
    return h;
  }
  static void store_half_at(std::uint8_t* p, float x) {
    const __fp16 h = static_cast<__fp16>(x);
    __builtin_memcpy(p, &h, 2);
  }
  static void store_half(std::uint8_t* p, F a) {
    const float16x4_t four = vcvt_f16_f32(a);
    __builtin_memcpy(p, &four, sizeof four);
  }
  static void store_i8(std::int8_t* p, F a) {
    const int16x4_t words = vqmovn_s32(vcvtnq_s32_f32(a));
    const std::int32_t four = vget_lane_s32(vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(words, words))), 0);
    __builtin_memcpy(p, &four, 4);
  }
  static F load_i16(const std::int16_t* p) { return vcvtq_f32_s32(vmovl_s16(vld1_s16(p))); }
  static void store_i16(std::int16_t* p, F a) { vst1_s16(p, vqmovn_s32(vcvtnq_s32_f32(a))); }
  /// Of 16 codes.
  static int sum_codes(const std::int8_t* p) { return vaddlvq_s8(vld1q_s8(p)); }
  static F load_half(const std::uint8_t* p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
  static F load_bfloat(const std::uint8_t* p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
  }
  static uint32x4_t widen(const std::uint8_t* p) {
    std::uint32_t four;
    __builtin_memcpy(&four, p, 4);
    return vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
  }
  static F load_i8(const std::uint8_t* p) {
    return vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(vreinterpretq_s32_u32(widen(p)), 24), 24));
  }
  static F load_e8m0_halved(const std::uint8_t* p) {
    const uint32x4_t e = widen(p);
    const uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
    const uint32x4_t subnormal =
        vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(vminq_u32(e, vdupq_n_u32(2))));
    return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), subnormal, normal));
  }

  static I ints_u8(const std::uint8_t* p) { return vreinterpretq_s32_u32(widen(p)); }
  static I ints_i8(const std::uint8_t* p) { return vshrq_n_s32(vshlq_n_s32(ints_u8(p), 24), 24); }
  /// Two int16 in each lane, from two bytes.
  static I pairs_u8(const std::uint8_t* p) { return vreinterpretq_s32_u16(vmovl_u8(vld1_u8(p))); }
  static I pairs_i8(const std::uint8_t* p) { return vreinterpretq_s32_s16(vmovl_s8(vreinterpret_s8_u8(vld1_u8(p)))); }
  static I pairs_low_nibble(const std::uint8_t* p) {
    return vreinterpretq_s32_u16(vmovl_u8(vand_u8(vld1_u8(p), vdup_n_u8(15))));
  }
  static I pairs_high_nibble(const std::uint8_t* p) {
    return vreinterpretq_s32_u16(vmovl_u8(vshr_n_u8(vld1_u8(p), 4)));
  }
  static I low_of_pairs(I pairs) { return vshrq_n_s32(vshlq_n_s32(pairs, 16), 16); }
  static I low_unsigned(I pairs) { return vandq_s32(pairs, vdupq_n_s32(0xffff)); }
  static I high_of_pairs(I pairs) { return vshrq_n_s32(pairs, 16); }
  static I dot_pairs(I sum, I a, B b) {
    const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_u8(b);
    return vaddq_s32(sum, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
  }
  static I add_ints(I a, I b) { return vaddq_s32(a, b); }
  static I mul_ints(I a, I b) { return vmulq_s32(a, b); }
  static I set1i(int x) { return vdupq_n_s32(x); }
  static F to_float(I a) { return vcvtq_f32_s32(a); }
  static B bytes(const std::uint8_t* p) { return vld1q_u8(p); }
  static void store_bytes(std::uint8_t* p, B a) { vst1q_u8(p, a); }
  static B broadcast4(const std::int8_t* p) {
    std::uint32_t four;
    __builtin_memcpy(&four, p, 4);
    return vreinterpretq_u8_u32(vdupq_n_u32(four));
  }
  static B low_nibble(B a) { return vandq_u8(a, vdupq_n_u8(15)); }
  static B high_nibble(B a) { return vshrq_n_u8(a, 4); }
  static B pair(B a, int j) {
    return vandq_u8(vshlq_u8(a, vdupq_n_s8(static_cast<std::int8_t>(-2 * j))), vdupq_n_u8(3));
  }
  /// Adds the bits of `mask` that `from` has in its bytes so far lower; `low` has none of them.
  static B or_field(B low, B from, int lower, int mask) {
    const B there = vshlq_u8(from, vdupq_n_s8(static_cast<std::int8_t>(lower)));
    return vbslq_u8(vdupq_n_u8(static_cast<std::uint8_t>(mask)), there, low);
  }
  static B lookup(const std::uint8_t* table, B index) { return vqtbl1q_u8(vld1q_u8(table), index); }
  static I dot(I sum, B u, B s) { return vdotq_s32(sum, vreinterpretq_s8_u8(u), vreinterpretq_s8_u8(s)); }
#ifdef LLORCH_NEON_I8MM
  static I dot_wide(I sum, B u, B s) { return vusdotq_s32(sum, u, vreinterpretq_s8_u8(s)); }
#else
  /// u = (u - 128) + 64 + 64, each part a signed byte.
  static I dot_wide(I sum, B u, B s) {
    const int8x16_t x = vreinterpretq_s8_u8(s), half = vdupq_n_s8(64);
    sum = vdotq_s32(sum, vreinterpretq_s8_u8(veorq_u8(u, vdupq_n_u8(128))), x);
    return vdotq_s32(vdotq_s32(sum, half, x), half, x);
  }
#endif
};

}  // namespace
}  // namespace llorch::kernel
