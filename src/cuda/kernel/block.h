// What kernels share: sums of a block in a fixed order, scalar functions, faults. For `.cu` files.
#pragma once

#include "cuda/instructions.h"
#include "cuda/kernel/step.h"
#include "cuda/launch.h"

namespace llorch::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr unsigned kRowThreadsMax = 256;

/// Threads of a block that computes one row: by its width alone, for the order of sums depends on it.
inline unsigned row_threads(std::int64_t width) { return width <= 256 ? 32 : width <= 1024 ? 128 : kRowThreadsMax; }
inline unsigned blocks_for(std::int64_t count, unsigned threads) {
  return static_cast<unsigned>((count + threads - 1) / threads);
}

struct BlockSums {
  float of_warp[kRowThreadsMax / 32];
};

/// The sum over all threads: a tree in each warp, then the warps in order. All threads get it.
__device__ inline float block_sum(float value, BlockSums& sums) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  if (blockDim.x == 32) return value;
  __syncthreads();  // whoever read the last sum is done
  if (threadIdx.x % 32 == 0) sums.of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = sums.of_warp[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) sum += sums.of_warp[warp];
  return sum;
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/// Row `row` of a matrix had a value that is not finite. From one thread.
__device__ inline void blame(const FaultMark& mark, std::int64_t row) {
  const std::int64_t index = mark.first + row;
  atomicCAS(mark.faults + (mark.rows ? mark.rows[index] : index), 0u, mark.code);
}

/// Makes the block's row zeros and blames it, where any thread found a value that is not finite. All threads call it.
__device__ inline void spoil_row(const FaultMark& mark, std::int64_t row, bool bad, float* values, std::int64_t width) {
  if (!__syncthreads_or(bad)) return;
  for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) values[i] = 0.0f;
  if (threadIdx.x == 0) blame(mark, row);
}

}  // namespace llorch::cuda
