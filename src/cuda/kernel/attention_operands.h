// Keys, values, queries and weights of attention as operands of mma m16n8k16. For `.cu` files.
//
// A float is a sum of kParts numbers of 16 bits, each rounded to nearest of what the ones before left. Of a product of
// two sums those parts are multiplied whose numbers add up to less than kParts: what is left out is below the last
// part.
//   cache  queries, weights    keys, values       products   wrong by (of a factor)
//   F16    2 of F16, scaled    as they are        2          2^-23
//   Q8_0   2 of BF16           2 of BF16          3          2^-17, where bytes with a scale are wrong by 2^-8
//   F32    3 of BF16           3 of BF16          6          2^-24
// F16's range is kept by powers of two: a row of queries is scaled so that its largest is below 2^15, and weights
// are relative to 2^-15 times the largest.
#pragma once

#include "cuda/instructions.h"
#include "cuda/kernel/cache_device.h"

namespace llorch::cuda {

struct HalfPairs {
  static __device__ std::uint32_t pack(float low, float high) { return pack_half(low, high); }
  static __device__ float2 unpack(std::uint32_t pair) { return unpack_half(pair); }
  static __device__ void multiply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    mma_f16(d, a, b);
  }
};
struct BfloatPairs {
  static __device__ std::uint32_t pack(float low, float high) { return pack_bfloat(low, high); }
  static __device__ float2 unpack(std::uint32_t pair) { return unpack_bfloat(pair); }
  static __device__ void multiply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    mma_bf16(d, a, b);
  }
};

/// Of a cache: kCacheParts are of keys and values, kItemBytes of one of them; kWeightLog: the largest weight, as a
/// power of two.
template<KvPrecision Precision>
struct AttendFormat;
template<>
struct AttendFormat<KvPrecision::kF32> : BfloatPairs {
  static constexpr int kParts = 3, kCacheParts = 3, kItemBytes = 4, kWeightLog = 0;
};
template<>
struct AttendFormat<KvPrecision::kF16> : HalfPairs {
  static constexpr int kParts = 2, kCacheParts = 1, kItemBytes = 2, kWeightLog = 15;
};
template<>
struct AttendFormat<KvPrecision::kQ8_0> : BfloatPairs {
  static constexpr int kParts = 2, kCacheParts = 2, kItemBytes = 1, kWeightLog = 0;
};

template<class Format, int kCount>
__device__ __forceinline__ void split_pair(float low, float high, std::uint32_t (&parts)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    parts[i] = Format::pack(low, high);
    const float2 taken = Format::unpack(parts[i]);
    low -= taken.x, high -= taken.y;
  }
}

template<class Format>
__device__ __forceinline__ void multiply_parts(float (&d)[4], const std::uint32_t (&a)[Format::kParts][4],
                                               const std::uint32_t (&b)[Format::kCacheParts][2]) {
#pragma unroll
  for (int i = 0; i < Format::kParts; ++i)
#pragma unroll
    for (int j = 0; j < Format::kCacheParts && i + j < Format::kParts; ++j) Format::multiply(d, a[i], b[j]);
}

/// Keys or values of a page in shared memory: of each position kDims dimensions, rows apart by an odd number of 16
/// bytes (no bank conflicts for ldmatrix). q8_0: behind them all scales of the page.
template<KvPrecision Precision>
struct PageStage {
  using Format = AttendFormat<Precision>;
  static constexpr int kDims = Precision == KvPrecision::kF32 ? 64 : 128;
  static constexpr int kRowBytes = kDims * Format::kItemBytes + 16;

  unsigned char* at;
  int padded;  // of the layer
  int first;   // dimension

  static __host__ __device__ constexpr int bytes(int padded) {
    return kPagePositions * kRowBytes + (Precision == KvPrecision::kQ8_0 ? kPagePositions * padded / 32 * 2 : 0);
  }
  [[nodiscard]] __device__ int dims() const { return min(kDims, padded - first); }

  /// Begins the copy of a head's keys or values; by all threads of the block, kThreads.
  template<int kThreads>
  __device__ __forceinline__ void fetch(const unsigned char* half) const {
    constexpr int kPieces = kDims * Format::kItemBytes / 16;  // of a row
    const int piece = static_cast<int>(threadIdx.x) % kPieces, row_bytes = padded * Format::kItemBytes;
    if (16 * piece < dims() * Format::kItemBytes) {
      int slot = static_cast<int>(threadIdx.x) / kPieces;
      unsigned char* to = at + slot * kRowBytes + 16 * piece;
      const unsigned char* from = half + slot * row_bytes + first * Format::kItemBytes + 16 * piece;
#pragma unroll 2
      for (; slot < kPagePositions; slot += kThreads / kPieces) {
        copy_async<16>(to, from);
        to += kThreads / kPieces * kRowBytes, from += kThreads / kPieces * row_bytes;
      }
    }
    if constexpr (Precision == KvPrecision::kQ8_0)
      for (int i = static_cast<int>(threadIdx.x); i < kPagePositions * padded / 256; i += kThreads)
        copy_async<16>(at + kPagePositions * kRowBytes + 16 * i, half + kPagePositions * padded + 16 * i);
    copy_commit();
  }

  [[nodiscard]] __device__ __forceinline__ float value(int slot, int d) const {
    const unsigned char* row = at + slot * kRowBytes;
    if constexpr (Precision == KvPrecision::kF32)
      return reinterpret_cast<const float*>(row)[d];
    else
      return static_cast<float>(reinterpret_cast<const signed char*>(row)[d]) *
             to_float(reinterpret_cast<const Half*>(at + kPagePositions * kRowBytes)[(slot * padded + first + d) / 32]);
  }

  /// B fragments of keys: columns are the positions of two tiles from `slot` on, rows the 16 dimensions from d on.
  __device__ __forceinline__ void keys(int slot, int d, int lane, std::uint32_t (&b)[2][Format::kCacheParts][2]) const {
    if constexpr (Precision == KvPrecision::kF16) {
      std::uint32_t r[4];
      ldmatrix(r, at + (slot + lane / 16 * 8 + lane % 8) * kRowBytes + 2 * (d + lane / 8 % 2 * 8));
      b[0][0][0] = r[0], b[0][0][1] = r[1], b[1][0][0] = r[2], b[1][0][1] = r[3];
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int of = slot + i / 2 * 8 + lane / 4, from = d + i % 2 * 8 + lane % 4 * 2;
        std::uint32_t parts[Format::kCacheParts];
        split_pair<Format>(value(of, from), value(of, from + 1), parts);
#pragma unroll
        for (int p = 0; p < Format::kCacheParts; ++p) b[i / 2][p][i % 2] = parts[p];
      }
    }
  }
  /// B fragments of values: columns are the dimensions of a tile from d on, rows the 16 positions from `slot` on.
  __device__ __forceinline__ void values(int slot, int d, int lane, std::uint32_t (&b)[Format::kCacheParts][2]) const {
    if constexpr (Precision == KvPrecision::kF16) {
      ldmatrix_transposed(b[0], at + (slot + lane % 16) * kRowBytes + 2 * d);
    } else {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int of = slot + i * 8 + lane % 4 * 2, from = d + lane / 4;
        std::uint32_t parts[Format::kCacheParts];
        split_pair<Format>(value(of, from), value(of + 1, from), parts);
#pragma unroll
        for (int p = 0; p < Format::kCacheParts; ++p) b[p][i] = parts[p];
      }
    }
  }
};

/// A fragment of 16 rows and columns of a matrix in shared memory, `stride` pairs of 16 bits a row.
__device__ __forceinline__ void load_rows(const std::uint32_t* corner, int stride, int lane, std::uint32_t (&a)[4]) {
  ldmatrix(a, corner + lane % 16 * stride + lane / 16 * 4);
}

}  // namespace llorch::cuda
