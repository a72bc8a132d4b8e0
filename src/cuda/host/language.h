// The words of CUDA C++ for a host compiler: kernels become functions, and each thread of a block runs one as a fiber
// (block.h). Barriers and warp functions know the line they are called from, so that errors can name it.
#pragma once

#include <source_location>

#include "cuda/host/atomics.h"
#include "cuda/host/math.h"
#include "cuda/host/thread.h"
#include "cuda/host/types.h"
#include "cuda/host/warp.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))

#define threadIdx (::llorch::cuda::host::this_thread->index)
#define blockIdx (::llorch::cuda::host::this_block->index)
#define blockDim (::llorch::cuda::host::this_block->threads)
#define gridDim (::llorch::cuda::host::this_block->blocks)
inline constexpr int warpSize = 32;

namespace llorch::cuda {

/// The block's dynamic shared memory at a byte offset. A T that is not aligned or goes beyond the end is an error.
template<class T>
T* shared(std::size_t offset = 0, std::source_location where = std::source_location::current()) {
  return static_cast<T*>(host::shared_at(offset, sizeof(T), alignof(T), where));
}

}  // namespace llorch::cuda

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  llorch::cuda::host::block_barrier(0, where);
}
/// How many threads of the block gave a value that is not 0; the two below: whether any, whether all.
inline int __syncthreads_count(int value, std::source_location where = std::source_location::current()) {
  return static_cast<int>(llorch::cuda::host::block_barrier(value != 0, where));
}
inline int __syncthreads_or(int value, std::source_location where = std::source_location::current()) {
  return __syncthreads_count(value, where) != 0;
}
inline int __syncthreads_and(int value, std::source_location where = std::source_location::current()) {
  return __syncthreads_count(value == 0, where) == 0;
}
// Blocks do not see each other's writes but by atomics, and those are ordered here.
inline void __threadfence() {}
inline void __threadfence_block() {}
