// F16, BF16 and F32 as the weights of product_kernel.h.
//
// F16 and BF16: steps are A fragments of m16n8k16 as they lie; activations are sums of two values of the weight's type
// (records.h), whose error is 2^-18 of a value for BF16 and 2^-22 of the largest of 32 for F16. One value, half the
// mma, would be 2^-9 and 2^-12: goldens of plain formats hold 1e-4. Converting F16 to BF16, for one kernel, would lose
// 3 bits of the weight. 32 columns are summed by four mma from 0 on, then added in float, rounded to nearest: a tensor
// core cuts off.
//
// F32: fmaf, column after column. Weights of this type are few: routers, and encoders.
#pragma once

#include <cmath>

#include "cuda/kernel/product_kernel.h"

namespace llorch::cuda {

template<DType kType>
struct PairWeights {
  static_assert(kType == DType::kF16 || kType == DType::kBF16);
  using Record = PairRecord;
  static constexpr int kSuperBytes = 0, kStepBytes = plain_step_bytes(2), kChunk = 1, kMmas = 4, kTogether = 2;

  struct Supers {};
  struct Fragment {
    std::uint32_t a[2][4];  // columns 0-15, 16-31
  };
  struct Columns {
    uint4 b[2];  // high and low parts
    float scales[2];
  };

  static __device__ __forceinline__ Supers supers(const std::byte*, Lane) { return {}; }
  static __device__ __forceinline__ Fragment fragment(const std::byte* chunk, int step, Supers, Lane lane) {
    Fragment out;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint4 words = InShared::load16(chunk + step * kStepBytes + (h * kLanes + lane.number()) * 16);
      out.a[h][0] = words.x, out.a[h][1] = words.y, out.a[h][2] = words.z, out.a[h][3] = words.w;
    }
    return out;
  }

  template<class Memory>
  static __device__ __forceinline__ Columns columns(const PairRecord& record, Lane lane) {
    Columns out{{}, {1.0f, 1.0f}};
#pragma unroll
    for (int h = 0; h < 2; ++h) out.b[h] = Memory::load16(&record.values[h][lane.number()]);
    if constexpr (kType == DType::kF16) {
      const uint2 bits = Memory::load8(record.scales + 2 * lane.t);
      out.scales[0] = __uint_as_float(bits.x), out.scales[1] = __uint_as_float(bits.y);
    }
    return out;
  }

  template<class Memory>
  static __device__ __forceinline__ void multiply(const Fragment& w, const Columns& x, Lane, float (&sums)[4]) {
    float d[4] = {};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const std::uint32_t high[2] = {x.b[h].x, x.b[h].y}, low[2] = {x.b[h].z, x.b[h].w};
      multiply_part(d, w.a[h], low);
      multiply_part(d, w.a[h], high);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[j] = kType == DType::kF16 ? fmaf(d[j], x.scales[j % 2], sums[j]) : sums[j] + d[j];
  }

 private:
  static __device__ __forceinline__ void multiply_part(float (&d)[4], const std::uint32_t (&a)[4],
                                                       const std::uint32_t (&b)[2]) {
    if constexpr (kType == DType::kF16)
      mma_f16(d, a, b);
    else
      mma_bf16(d, a, b);
  }
};

struct FloatWeights {
  using Record = FloatRecord;
  static constexpr int kSuperBytes = 0, kStepBytes = plain_step_bytes(4), kChunk = 1, kMmas = 0, kTogether = 8;

  struct Supers {};
  struct Fragment {
    const std::byte* step;
  };
  struct Columns {
    const FloatRecord* record;
  };

  static __device__ __forceinline__ Supers supers(const std::byte*, Lane) { return {}; }
  static __device__ __forceinline__ Fragment fragment(const std::byte* chunk, int step, Supers, Lane) {
    return {chunk + step * kStepBytes};
  }
  template<class Memory>
  static __device__ __forceinline__ Columns columns(const FloatRecord& record, Lane) {
    return {&record};
  }
  template<class Memory>
  static __device__ __forceinline__ void multiply(const Fragment& w, const Columns& x, Lane lane, float (&sums)[4]) {
#pragma unroll 4
    for (int c = 0; c < kStepColumns; c += 2) {
      const uint4 words = InShared::load16(w.step + (c / 2 * kGroups + lane.group) * 16);
      const float weights[2][2] = {{__uint_as_float(words.x), __uint_as_float(words.z)},
                                   {__uint_as_float(words.y), __uint_as_float(words.w)}};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint2 bits = Memory::load8(x.record->values[c + i] + 2 * lane.t);
        const float values[2] = {__uint_as_float(bits.x), __uint_as_float(bits.y)};
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[j] = fmaf(values[j % 2], weights[i][j / 2], sums[j]);
      }
    }
  }
};

}  // namespace llorch::cuda
