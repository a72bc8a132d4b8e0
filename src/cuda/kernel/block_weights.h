// Block formats as the weights of product_kernel.h: planes of kernel/layout.h become A fragments of m16n8k32. A lane's
// bytes of a plane vector are those of its rows (product_kernel.h), one load; its columns are the groups t and t + 4 of
// the eight groups of four of a step.
//
// Codes are multiplied as signed bytes, what stands for zero being 0. A dot product is exact: its accumulator begins at
// the bits of 1.5 * 2^23, so that they are a float 1.5 * 2^23 + dot, without a conversion (dots are below 2^22:
// 128 * 127 * 32 at most). Then sum = fma(dot * scale of activations, scale of weights, sum), for 32 columns or two
// times 16, and for formats with minimums behind it sum = fma(-scale * sum of codes, minimum, sum).
#pragma once

#include <cmath>

#include "cuda/kernel/panel_formats.h"
#include "cuda/kernel/product_kernel.h"

namespace llorch::cuda {

constexpr std::uint32_t kEachByte = 0x01010101u;
constexpr int kDotZero = 0x4b400000;  // bits of 1.5 * 2^23
__device__ __forceinline__ float dot_value(int sum) { return __int_as_float(sum) - 12582912.0f; }

__device__ __forceinline__ float2 load_pair(const float* at) {
  const uint2 bits = load8(at);
  return make_float2(__uint_as_float(bits.x), __uint_as_float(bits.y));
}
__device__ __forceinline__ std::uint32_t load_u16(const std::byte* at) {
  return __ldg(reinterpret_cast<const std::uint16_t*>(at));
}
__device__ __forceinline__ std::uint32_t load_u32(const std::byte* at) {
  return __ldg(reinterpret_cast<const std::uint32_t*>(at));
}
__device__ __forceinline__ float half_value(std::uint32_t bits) {
  return to_float(Half{static_cast<std::uint16_t>(bits)});
}
__device__ __forceinline__ float signed_value(std::uint32_t byte) {
  return static_cast<float>(static_cast<signed char>(byte));
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
  using Record = CodeRecord;
  static constexpr bool kSuper = kF.block == 256;  // scales under one of 256 columns
  static constexpr int kBlockSteps = kF.block / 32, kSubs = 32 / kF.sub;
  static constexpr int kBlockBytes = static_cast<int>(kernel::block_bytes(kF, kPanelRows)),
                       kScaleBytes = static_cast<int>(kPanelRows * kernel::scale_bytes_per_row(kF)),
                       kStepBytes = static_cast<int>(kernel::plane_vectors(kF)) * 4 * kPanelRows;
  static constexpr int kWords = 2 * kF.nibbles + 4 * kF.pairs + 2 * kF.bits + 4 * kF.bytes;  // of a lane
  static constexpr int kChunk = kWords <= 2 ? 4 : 2;
  static constexpr bool kMinimums = kF.scales == kernel::Scales::kHalfMin ||
                                    kF.scales == kernel::Scales::kSuperNibble ||
                                    kF.scales == kernel::Scales::kSuperPair;

  static constexpr std::uint32_t kTable0 = lookup_word<kType>(0), kTable1 = lookup_word<kType>(4),
                                 kTable2 = lookup_word<kType>(8), kTable3 = lookup_word<kType>(12);

  struct Chunk {
    std::uint32_t planes[kChunk][kWords];
    std::uint32_t scales[kChunk][2];  // of a step, as they lie; of the lane's two rows
    std::uint32_t supers[2];          // d, and the minimums' in the upper half
  };
  struct Factors {
    float scales[kSubs][2], minimums[kSubs][2];
  };

  const std::byte* panel;
  Lane lane;

  __device__ BlockWeights(const std::byte* at, int, Lane place) : panel(at), lane(place) {}

  /// The steps from `step` on, as many as a chunk has, all of one block of 256.
  __device__ __forceinline__ void load(int step, int last, Chunk& out) const {
    const std::byte* block = panel + static_cast<std::int64_t>(step / kBlockSteps) * kBlockBytes;
    if constexpr (kSuper) load_pairs(block, kMinimums, out.supers);
#pragma unroll
    for (int s = 0; s < kChunk; ++s) {
      if (step + s >= last) continue;
      const int first = kSuper ? step % kBlockSteps : 0;  // even
      const std::byte* at = kSuper ? block : block + s * kBlockBytes;
      load_planes(at + kScaleBytes + (kSuper ? first + s : 0) * kStepBytes, out.planes[s]);
      load_scales(at, first, kSuper ? s : 0, out.scales[s]);
    }
  }
  /// Of both rows: 16 bits of one field, and where there are two of the next in the upper half.
  __device__ __forceinline__ void load_pairs(const std::byte* field, bool two, std::uint32_t (&out)[2]) const {
    const std::uint32_t low = load_u32(field + 4 * lane.group),
                        high = two ? load_u32(field + 2 * kPanelRows + 4 * lane.group) : 0;
    out[0] = __byte_perm(low, high, 0x5410), out[1] = __byte_perm(low, high, 0x7632);
  }
  __device__ __forceinline__ void load_planes(const std::byte* plane, std::uint32_t (&out)[kWords]) const {
    constexpr int kVector = 4 * kPanelRows;
    const std::byte* at = plane + 8 * lane.group;
    int n = 0;
    const auto take = [&](int vector) {
      const uint2 rows = load8_once(at + vector * kVector);
      out[n++] = rows.x, out[n++] = rows.y;
    };
    if constexpr (kF.bytes || kF.nibbles) take(lane.t);
    if constexpr (kF.bytes) take(lane.t + 4);
    if constexpr (kF.nibbles) at += 4 * kVector;
    if constexpr (kF.pairs) {
      take(0), take(1);
      at += 2 * kVector;
    }
    if constexpr (kF.bits) take(0);
  }
  /// Of step first + s of the block.
  __device__ __forceinline__ void load_scales(const std::byte* block, int first, int s, std::uint32_t (&out)[2]) const {
    using kernel::Scales;
    constexpr int kByte = kPanelRows, kTwo = 2 * kPanelRows;  // fields
    if constexpr (!kSuper && kF.scales != Scales::kE8M0) {
      load_pairs(block, kF.scales != Scales::kHalf, out);
    } else if constexpr (kF.scales == Scales::kSuper || kF.scales == Scales::kSuperNibble) {
      load_pairs(block + kTwo * (kMinimums ? 2 : 1) + kTwo * (first + s), false, out);
    } else if constexpr (kF.scales == Scales::kE8M0 || kF.scales == Scales::kSuperSigned) {
      const std::uint32_t both = load_u16(block + (kSuper ? kTwo + kByte * (first + s) : 0) + 2 * lane.group);
      out[0] = both & 0xffu, out[1] = both >> 8;
    } else if constexpr (kF.scales == Scales::kSuperPair) {
      const std::byte* at = block + 2 * kTwo;
      const std::uint32_t scales = load_u16(at + kByte * (first + s) + 2 * lane.group),
                          minimums = load_u32(at + 8 * kByte + kByte * (first + s / 2 * 2) + 4 * lane.group);
      out[0] = __byte_perm(scales, minimums, s % 2 == 0 ? 0x40 : 0x50) & 0xffffu;
      out[1] = __byte_perm(scales, minimums, s % 2 == 0 ? 0x61 : 0x71) & 0xffffu;
    }
  }

  __device__ __forceinline__ Factors factors(const Chunk& chunk, int s) const {
    Factors out{};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const std::uint32_t super = chunk.supers[r], bits = chunk.scales[s][r];
#pragma unroll
      for (int h = 0; h < kSubs; ++h) {
        out.scales[h][r] = scale_of(super, bits, h);
        if constexpr (kMinimums) out.minimums[h][r] = minimum_of(super, bits, h);
      }
    }
    return out;
  }
  static __device__ __forceinline__ float scale_of(std::uint32_t super, std::uint32_t bits, int h) {
    using kernel::Scales;
    if constexpr (kF.scales == Scales::kE8M0)  // half the power of two: codes are twice the values
      return __uint_as_float(bits < 2 ? 0x00200000u << bits : (bits - 1) << 23);
    const float d = half_value((kSuper ? super : bits >> (16 * h)) & 0xffffu) * kF.unit;
    if constexpr (kF.scales == Scales::kSuper) return d * signed_value((bits >> (8 * h)) & 0xffu);
    if constexpr (kF.scales == Scales::kSuperSigned) return d * signed_value(bits);
    if constexpr (kF.scales == Scales::kSuperNibble) return d * static_cast<float>((bits >> (8 * h)) & 15u);
    if constexpr (kF.scales == Scales::kSuperPair) return d * static_cast<float>(bits & 0xffu);
    return d;
  }
  static __device__ __forceinline__ float minimum_of(std::uint32_t super, std::uint32_t bits, int h) {
    if constexpr (!kSuper) return half_value(bits >> 16);
    const float d = half_value(super >> 16);
    if constexpr (kF.scales == kernel::Scales::kSuperNibble) return d * static_cast<float>((bits >> (8 * h + 4)) & 15u);
    return d * static_cast<float>(bits >> 8);
  }

  /// What eight nibbles of a word stand for: the low ones and the high ones.
  static __device__ __forceinline__ void look_up(std::uint32_t word, std::uint32_t& low, std::uint32_t& high) {
    std::uint32_t found[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {  // 4 nibbles each, lowest first
      const std::uint32_t index = word >> (16 * i), within = index & 0x7777u;
      found[i] = __byte_perm(__byte_perm(kTable0, kTable1, within), __byte_perm(kTable2, kTable3, within),
                             0x3210u | ((index & 0x8888u) >> 1));
    }
    low = __byte_perm(found[0], found[1], 0x6420), high = __byte_perm(found[0], found[1], 0x7531);
  }

  /// The A fragment of a step.
  __device__ __forceinline__ void unpack(const std::uint32_t (&words)[kWords], std::uint32_t (&a)[4]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      std::uint32_t low = 0, high = 0;  // columns 4t.. and 4t + 16..
      if constexpr (kF.bytes) low = words[r], high = words[2 + r];
      if constexpr (kF.nibbles && kF.indexed) look_up(words[r], low, high);
      if constexpr (kF.nibbles && !kF.indexed)
        low = words[r] & (15u * kEachByte), high = (words[r] >> 4) & (15u * kEachByte);
      if constexpr (kF.pairs) {
        constexpr int kFirst = 2 * kF.nibbles, kTo = 4 * kF.nibbles;
        low |= ((words[kFirst + r] >> (2 * lane.t)) & (3u * kEachByte)) << kTo;
        high |= ((words[kFirst + 2 + r] >> (2 * lane.t)) & (3u * kEachByte)) << kTo;
      }
      if constexpr (kF.bits) {
        constexpr int kFirst = 2 * kF.nibbles + 4 * kF.pairs, kTo = kF.nibbles ? 4 : 2;
        const std::uint32_t bits = words[kFirst + r] >> lane.t;
        low |= (bits & kEachByte) << kTo, high |= ((bits >> 4) & kEachByte) << kTo;
      }
      a[r] = to_signed(low), a[2 + r] = to_signed(high);
    }
  }
  static __device__ __forceinline__ std::uint32_t to_signed(std::uint32_t codes) {
    if constexpr (kF.indexed || kF.zero == 0) return codes;
    // + 128 - zero, which does not leave the byte; then - 128
    return (codes + static_cast<std::uint32_t>(128 - kF.zero) * kEachByte) ^ (0x80u * kEachByte);
  }

  template<int kTiles>
  __device__ __forceinline__ void add(const Chunk& chunk, int, int s, const CodeRecord* records, int rows,
                                      float (&sums)[kTiles][4]) const {
    std::uint32_t a[4];
    unpack(chunk.planes[s], a);
    const Factors by = factors(chunk, s);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const CodeRecord& record = records[i];
      const uint2 codes = i * kTileRows + lane.group < rows ? load8(record.codes[lane.number()]) : make_uint2(0, 0);
      const std::uint32_t b[2] = {codes.x, codes.y};
      const float2 scales = load_pair(record.scales + 2 * lane.t);
#pragma unroll
      for (int h = 0; h < kSubs; ++h) {
        int dots[4] = {kDotZero, kDotZero, kDotZero, kDotZero};
        multiply_part(dots, a, b, h);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sums[i][j] = fmaf(dot_value(dots[j]) * (j % 2 == 0 ? scales.x : scales.y), by.scales[h][j / 2], sums[i][j]);
        if constexpr (kMinimums) {
          const float2 minus = load_pair(record.minus_sums[kSubs == 1 ? 2 : h] + 2 * lane.t);
#pragma unroll
          for (int j = 0; j < 4; ++j)
            sums[i][j] = fmaf(j % 2 == 0 ? minus.x : minus.y, by.minimums[h][j / 2], sums[i][j]);
        }
      }
    }
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
