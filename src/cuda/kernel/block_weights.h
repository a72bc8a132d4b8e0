// Block formats as the weights of product_kernel.h: steps of panel_layout.h become A fragments of m16n8k32.
//
// Codes are multiplied as signed bytes, what stands for zero being 0. A dot product is exact: its accumulator begins at
// the bits of 1.5 * 2^23, so that they are a float 1.5 * 2^23 + dot, without a conversion (dots are below 2^22:
// 128 * 127 * 32 at most). Then sum = fma(dot * scale of activations, scale of weights, sum), for 32 columns or two
// times 16, and for formats with minimums behind it sum = fma(-scale * sum of codes, minimum, sum). dot * scale is one
// fma that takes 1.5 * 2^23 * scale away: rounded once, since that product is exact (records.h).
#pragma once

#include <cmath>

#include "cuda/kernel/panel_formats.h"
#include "cuda/kernel/product_kernel.h"

namespace llorch::cuda {

constexpr std::uint32_t kEachByte = 0x01010101u;
constexpr int kDotZero = 0x4b400000;  // bits of kDotOffset, 1.5 * 2^23

__device__ __forceinline__ float half_value(std::uint32_t bits) {
  return to_float(Half{static_cast<std::uint16_t>(bits)});
}
/// 2^23 + a byte of the word: the byte lies in the mantissa.
__device__ __forceinline__ float raised_byte(std::uint32_t word, unsigned which) {
  return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440u | which));
}
/// The product of a half with a byte: exact.
__device__ __forceinline__ float times_byte(float half, std::uint32_t word, unsigned which) {
  return fmaf(half, raised_byte(word, which), half * -0x1p23f);
}
__device__ __forceinline__ float times_signed_byte(float half, std::uint32_t word, unsigned which) {
  return half * (raised_byte(word ^ (0x80u * kEachByte), which) - (0x1p23f + 128.0f));
}

/// Of an indexed format: what four nibbles stand for, as signed bytes.
template<DType kType>
constexpr std::uint32_t lookup_word(int first) {
  constexpr kernel::PanelFormat kF = panel_format(kType);
  std::uint32_t out = 0;
  if constexpr (kF.indexed)
    for (int i = 0; i < 4; ++i) out |= static_cast<std::uint32_t>((kF.lookup[first + i] - kF.zero) & 0xff) << (8 * i);
  return out;
}

template<DType kType>
struct BlockWeights {
  static constexpr kernel::PanelFormat kF = panel_format(kType);
  static constexpr StepLayout kLayout = step_layout(kF);
  using Record = CodeRecord;
  static constexpr int kSuperBytes = kLayout.supers, kStepBytes = kLayout.step;
  static constexpr int kChunk = kF.bytes ? 2 : 4, kSubs = 32 / kF.sub, kMmas = kSubs, kTogether = 4;
  static constexpr int kRowScales = row_scales(kF), kRowSupers = row_supers(kF);
  static constexpr bool kSuper = kSuperBytes > 0;  // scales under one of 256 columns
  static constexpr bool kMinimums = kF.scales == kernel::Scales::kHalfMin ||
                                    kF.scales == kernel::Scales::kSuperNibble ||
                                    kF.scales == kernel::Scales::kSuperPair;

  static constexpr std::uint32_t kTable0 = lookup_word<kType>(0), kTable1 = lookup_word<kType>(4),
                                 kTable2 = lookup_word<kType>(8), kTable3 = lookup_word<kType>(12);

  /// Of the lane's two rows, where scales lie under one of 256 columns: that one, and that of minimums.
  struct Supers {
    float scales[2], minimums[2];
  };
  /// A of a step, and the factors of the lane's two rows.
  struct Fragment {
    std::uint32_t a[4];
    float scales[kSubs][2], minimums[kSubs][2];
  };
  /// B of a step, and the factors of the lane's two rows of activations.
  struct Columns {
    std::uint32_t b[2];
    float scales[2], offsets[2], minus_sums[kSubs][2];
  };

  /// Of a chunk in shared memory.
  static __device__ __forceinline__ Supers supers(const std::byte* chunk, Lane lane) {
    Supers out{};
    if constexpr (kSuper) {
      std::uint32_t rows[2];
      load_rows<kRowSupers>(chunk, lane, rows);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        out.scales[r] = half_value(rows[r] & 0xffffu) * kF.unit;
        if constexpr (kMinimums) out.minimums[r] = half_value(rows[r] >> 16);
      }
    }
    return out;
  }
  /// Of one of its steps.
  static __device__ __forceinline__ Fragment fragment(const std::byte* chunk, int step, const Supers& supers,
                                                      Lane lane) {
    const std::byte* at = chunk + kSuperBytes + step * kStepBytes;
    Fragment out{};
    unpack(at, lane, out.a);
    std::uint32_t scales[2] = {};
    if constexpr (kRowScales > 0) load_rows<kRowScales>(at, lane, scales);
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (unsigned h = 0; h < kSubs; ++h) {
        out.scales[h][r] = scale_of(supers.scales[r], scales[r], h);
        if constexpr (kMinimums) out.minimums[h][r] = minimum_of(supers.minimums[r], scales[r], h);
      }
    return out;
  }

  template<class Memory>
  static __device__ __forceinline__ Columns columns(const CodeRecord& record, Lane lane) {
    const uint2 codes = Memory::load8(record.codes[lane.number()]);
    Columns out{{codes.x, codes.y}, {}, {}, {}};
    const uint4 factors = Memory::load16(record.factors[lane.t]);
    out.scales[0] = __uint_as_float(factors.x), out.scales[1] = __uint_as_float(factors.y);
    out.offsets[0] = __uint_as_float(factors.z), out.offsets[1] = __uint_as_float(factors.w);
    if constexpr (kMinimums) {
      load_pair<Memory>(record.minus_sums[0] + 2 * lane.t, out.minus_sums[0]);
      if constexpr (kSubs == 2) {
        load_pair<Memory>(record.minus_sums[1] + 2 * lane.t, out.minus_sums[1]);
#pragma unroll
        for (int j = 0; j < 2; ++j) out.minus_sums[0][j] -= out.minus_sums[1][j];
      }
    }
    return out;
  }

  template<class Memory>
  static __device__ __forceinline__ void multiply(const Fragment& w, const Columns& x, Lane, float (&sums)[4]) {
#pragma unroll
    for (int h = 0; h < kSubs; ++h) {
      int dots[4] = {kDotZero, kDotZero, kDotZero, kDotZero};
      multiply_part(dots, w.a, x.b, h);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float dot = fmaf(__int_as_float(dots[j]), x.scales[j % 2], x.offsets[j % 2]);
        sums[j] = fmaf(dot, w.scales[h][j / 2], sums[j]);
      }
      if constexpr (kMinimums)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[j] = fmaf(x.minus_sums[h][j % 2], w.minimums[h][j / 2], sums[j]);
    }
  }

 private:
  template<class Memory>
  static __device__ __forceinline__ void load_pair(const float* at, float (&out)[2]) {
    const uint2 bits = Memory::load8(at);
    out[0] = __uint_as_float(bits.x), out[1] = __uint_as_float(bits.y);
  }
  /// kBytes of each of the lane's two rows.
  template<int kBytes>
  static __device__ __forceinline__ void load_rows(const std::byte* at, Lane lane, std::uint32_t (&out)[2]) {
    at += 2 * kBytes * lane.group;
    if constexpr (kBytes == 4) {
      const uint2 both = InShared::load8(at);
      out[0] = both.x, out[1] = both.y;
    } else {
      const std::uint32_t both = InShared::load<std::conditional_t<kBytes == 2, std::uint32_t, std::uint16_t>>(at);
      out[0] = both & ((1u << (8 * kBytes)) - 1), out[1] = both >> (8 * kBytes);
    }
  }

  static __device__ __forceinline__ float scale_of(float super, std::uint32_t bits, unsigned h) {
    using kernel::Scales;
    if constexpr (kF.scales ==
                  Scales::kE8M0)  // half the power of two, codes are twice the values; the two lowest are subnormal
      return __int_as_float(max((static_cast<int>(bits) << 23) - (1 << 23), static_cast<int>(bits + 1) << 21));
    if constexpr (kF.scales == Scales::kSuper) return times_signed_byte(super, bits, h);
    if constexpr (kF.scales == Scales::kSuperSigned) return times_signed_byte(super, bits, 0);
    if constexpr (kF.scales == Scales::kSuperNibble) return times_byte(super, bits & (15u * kEachByte), h);
    if constexpr (kF.scales == Scales::kSuperPair) return times_byte(super, bits, 0);
    if constexpr (kSuper) return super;
    return half_value((bits >> (16 * h)) & 0xffffu) * kF.unit;
  }
  static __device__ __forceinline__ float minimum_of(float super, std::uint32_t bits, unsigned h) {
    if constexpr (kF.scales == kernel::Scales::kSuperNibble)
      return times_byte(super, (bits >> 4) & (15u * kEachByte), h);
    if constexpr (kF.scales == kernel::Scales::kSuperPair) return times_byte(super, bits, 1);
    return half_value(bits >> 16);
  }

  /// What eight nibbles of a word stand for: the lower four and the upper four.
  static __device__ __forceinline__ void look_up(std::uint32_t word, std::uint32_t& low, std::uint32_t& high) {
    const std::uint32_t within = word & 0x77777777u, halves = ((word >> 1) & 0x44444444u) | 0x32103210u;
    const auto of_four = [](std::uint32_t index, std::uint32_t half) {  // lowest first
      return __byte_perm(__byte_perm(kTable0, kTable1, index), __byte_perm(kTable2, kTable3, index), half);
    };
    low = of_four(within, halves), high = of_four(within >> 16, halves >> 16);
  }

  /// The A fragment of the step at `at`.
  static __device__ __forceinline__ void unpack(const std::byte* at, Lane lane, std::uint32_t (&a)[4]) {
    const unsigned number = lane.number();
    std::uint32_t codes[4] = {};  // both rows, columns 4t..; the same, columns 4t + 16..
    if constexpr (kF.bytes) {
      const uint4 words = InShared::load16(at + kLayout.codes + 16 * number);
      codes[0] = words.x, codes[1] = words.y, codes[2] = words.z, codes[3] = words.w;
    }
    if constexpr (kF.nibbles) {
      const uint2 words = InShared::load8(at + kLayout.codes + 8 * number);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const std::uint32_t word = r == 0 ? words.x : words.y;
        if constexpr (kF.indexed)
          look_up(word, codes[r], codes[2 + r]);
        else
          codes[r] = word & (15u * kEachByte), codes[2 + r] = (word >> 4) & (15u * kEachByte);
      }
    }
    // Of the upper bits parts 0 to 3 are: first row low, high, second row low, high.
    if constexpr (kF.pairs) {
      const auto word = InShared::load<std::uint32_t>(at + kLayout.pairs + 4 * number);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        codes[i / 2 + i % 2 * 2] |= ((word >> (2 * i)) & (3u * kEachByte)) << (4 * kF.nibbles);
    }
    if constexpr (kF.bits) {
      const std::uint32_t nibbles = InShared::load<std::uint16_t>(at + kLayout.bits + 2 * number);
      const std::uint32_t word = __byte_perm(nibbles, nibbles >> 4, 0x5140);  // a nibble in the lower half of each byte
#pragma unroll
      for (int i = 0; i < 4; ++i) codes[i / 2 + i % 2 * 2] |= ((word >> i) & kEachByte) << (kF.nibbles ? 4 : 2);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = to_signed(codes[i]);
  }
  static __device__ __forceinline__ std::uint32_t to_signed(std::uint32_t codes) {
    if constexpr (kF.indexed || kF.zero == 0) return codes;
    // + 128 - zero, which does not leave the byte; then - 128
    return (codes + static_cast<std::uint32_t>(128 - kF.zero) * kEachByte) ^ (0x80u * kEachByte);
  }

  /// Of all 32 columns, or of half `h` of them.
  static __device__ __forceinline__ void multiply_part(int (&dots)[4], const std::uint32_t (&a)[4],
                                                       const std::uint32_t (&b)[2], int h) {
    if constexpr (kSubs == 1) {
      mma_s8(dots, a, b);
    } else {
      const std::uint32_t half_a[2] = {a[2 * h], a[2 * h + 1]}, half_b[1] = {b[h]};
      mma_s8(dots, half_a, half_b);
    }
  }
};

}  // namespace llorch::cuda
