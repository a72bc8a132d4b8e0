// What a `.cu` file includes first: the language of CUDA, from nvcc or from the emulated device (host/).
//
// A kernel is written once. Rules that keep it so:
//  - shared memory only through shared<T>(): `auto& tile = *shared<Tile>();` with a struct that holds all arrays, and
//    sizeof(Tile) as shared_bytes of the launch. `__shared__` does not compile on the emulated device.
//  - warp functions take their mask, and all threads of a block reach the same barriers.
//  - no exceptions, no destructors that do something, no waiting for another block.
//  - floating point: nvcc compiles with -fmad=false, g++ with -ffp-contract=off. Write fmaf() where one is meant.
// C++20, for nvcc and for g++ and clang++ (LLORCH_CUDA_EMULATED).
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef LLORCH_CUDA_EMULATED
#include "cuda/host/language.h"
#else
#include <cuda_runtime.h>

namespace llorch::cuda {

/// The block's dynamic shared memory at a byte offset.
template<class T>
__device__ __forceinline__ T* shared(std::size_t offset = 0) {
  extern __shared__ __align__(128) unsigned char llorch_shared[];
  return reinterpret_cast<T*>(llorch_shared + offset);
}

}  // namespace llorch::cuda
#endif
