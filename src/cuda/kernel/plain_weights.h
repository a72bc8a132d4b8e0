// F16, BF16 and F32 as the weights of product_kernel.h.
//
// F16 and BF16: panels hold pairs of columns, which are A fragments of m16n8k16 as they lie; activations are sums of
// two values of the weight's type (records.h), whose error is 2^-18 of a value for BF16 and 2^-22 of the largest of 32
// for F16. Converting F16 to BF16, for one kernel, would lose 3 bits of the weight. 32 columns are summed by four mma
// from 0 on, then added in float, rounded to nearest: a tensor core cuts off.
// Bounds on paper: few rows, the weight's bytes; many rows, a quarter of an H100's bf16 peak: each product takes two
// mma, and these 512 bytes of the L1 cache, four cycles. (Two panels a warp would share these bytes: not done.)
//
// F32: fmaf, column after column. Weights of this type are few: routers, and small models of tests.
#pragma once

#include <cmath>

#include "cuda/kernel/product_kernel.h"

namespace llorch::cuda {

template<DType kType>
struct PairWeights {
  static_assert(kType == DType::kF16 || kType == DType::kBF16);
  using Record = PairRecord;
  static constexpr int kChunk = 1, kVector = 4 * kPanelRows, kStepBytes = 16 * kVector;
  struct Chunk {
    std::uint32_t a[kChunk][2][4];  // [step][columns 0-15, 16-31]
  };

  const std::byte* panel;
  Lane lane;

  __device__ PairWeights(const std::byte* at, int, Lane place) : panel(at), lane(place) {}

  __device__ __forceinline__ void load(int step, int last, Chunk& out) const {
    const std::byte* at = panel + static_cast<std::int64_t>(step) * kStepBytes + lane.t * kVector + 8 * lane.group;
#pragma unroll
    for (int s = 0; s < kChunk; ++s)
      if (step + s < last)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint2 rows = load8_once(at + s * kStepBytes + 4 * i * kVector);
          out.a[s][i / 2][i % 2 * 2] = rows.x, out.a[s][i / 2][i % 2 * 2 + 1] = rows.y;
        }
  }

  static __device__ __forceinline__ void multiply(float (&d)[4], const std::uint32_t (&a)[4],
                                                  const std::uint32_t (&b)[2]) {
    if constexpr (kType == DType::kF16)
      mma_f16(d, a, b);
    else
      mma_bf16(d, a, b);
  }

  template<int kTiles>
  __device__ __forceinline__ void add(const Chunk& chunk, int, int s, const PairRecord* records, int rows,
                                      float (&sums)[kTiles][4]) const {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      if (i > 0 && i % 2 == 0) __syncwarp();  // loads of more tiles would not find registers
      float d[4] = {};
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint4 b =
            i * kTileRows + lane.group < rows ? load16(&records[i].values[h][lane.number()]) : make_uint4(0, 0, 0, 0);
        const std::uint32_t high[2] = {b.x, b.y}, low[2] = {b.z, b.w};
        multiply(d, chunk.a[s][h], low);
        multiply(d, chunk.a[s][h], high);
      }
      uint2 scales = make_uint2(0x3f800000u, 0x3f800000u);
      if constexpr (kType == DType::kF16) scales = load8(records[i].scales + 2 * lane.t);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        sums[i][j] = fmaf(d[j], __uint_as_float(j % 2 == 0 ? scales.x : scales.y), sums[i][j]);
    }
  }
};

struct FloatWeights {
  using Record = FloatRecord;
  static constexpr int kChunk = 1;
  struct Chunk {};

  const std::byte* panel;
  int columns;
  Lane lane;

  __device__ FloatWeights(const std::byte* at, int count, Lane place) : panel(at), columns(count), lane(place) {}
  __device__ __forceinline__ void load(int, int, Chunk&) const {}

  template<int kTiles>
  __device__ __forceinline__ void add(const Chunk&, int step, int, const FloatRecord* records, int rows,
                                      float (&sums)[kTiles][4]) const {
    const auto* weights = reinterpret_cast<const float*>(panel) +
                          static_cast<std::int64_t>(step) * kStepColumns * kPanelRows + 2 * lane.group;
    const int count = min(kStepColumns, columns - step * kStepColumns);
#pragma unroll 4
    for (int c = 0; c < count; ++c) {
      const uint2 both = load8_once(weights + c * kPanelRows);
      const float w[2] = {__uint_as_float(both.x), __uint_as_float(both.y)};
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const uint2 x = i * kTileRows + 2 * lane.t < rows ? load8(records[i].values[c] + 2 * lane.t) : make_uint2(0, 0);
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(__uint_as_float(j % 2 == 0 ? x.x : x.y), w[j / 2], sums[i][j]);
      }
    }
  }
};

}  // namespace llorch::cuda
