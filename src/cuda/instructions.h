// The instructions that kernels use by name: PTX on a GPU (driver/instructions.h), C++ with the same meaning on the
// emulated device (host/instructions.h). Facts: NVIDIA, "Parallel Thread Execution ISA", sections of mma, ldmatrix,
// cp.async, cvt and dp4a. All are of sm_80.
//
// Fragments of a warp. With group = lane / 4 and t = lane % 4; a register holds 2 halves or 4 bytes, the lower column
// (row, for B) in its lower bits:
//   mma m16n8k16, 16 bits   A  a[0]: row group,     columns 2t, 2t+1      a[1]: row group + 8, the same columns
//                              a[2]: row group,     columns 2t+8, 2t+9    a[3]: row group + 8, the same columns
//                           B  b[0]: column group,  rows 2t, 2t+1         b[1]: rows 2t+8, 2t+9
//   mma m16n8k32, bytes     A  a[0]: row group,     columns 4t .. 4t+3    a[1]: row group + 8, the same columns
//                              a[2]: row group,     columns 4t+16 ..      a[3]: row group + 8, the same columns
//                           B  b[0]: column group,  rows 4t .. 4t+3       b[1]: rows 4t+16 ..
//   mma m16n8k16, bytes     A  a[0]: row group,     columns 4t .. 4t+3    a[1]: row group + 8, the same columns
//                           B  b[0]: column group,  rows 4t .. 4t+3
//   all                     D  d[0], d[1]: row group, columns 2t, 2t+1    d[2], d[3]: row group + 8, the same columns
// All lanes of the warp call mma and ldmatrix together.
//
// d += a * b. On the host products are exact (in float: 8 and 11 bits of mantissa) and each sum over k, from k = 0 on
// and beginning with d, is rounded to float at every step. What a tensor core rounds is its own; integers are exact
// modulo 2^32.
//
//   mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])     m16n8k16
//   mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])      m16n8k16
//   mma_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])         m16n8k32, a and b signed
//   mma_s8(int (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1])         m16n8k16, a and b signed
//   mma_u8s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])       m16n8k32, a unsigned, b signed
//
// ldmatrix: N = 1, 2 or 4 matrices of 8 rows of 16 bytes in shared memory. Lane i gives the address of row i % 8 of
// matrix i / 8 (addresses beyond 8 N lanes are not used). r[m] of a lane: row group, halves 2t and 2t+1 of matrix m;
// transposed: rows 2t and 2t+1 of its column group.
//   ldmatrix(uint32_t (&r)[N], const void* row)   ldmatrix_transposed(uint32_t (&r)[N], const void* row)
//
// Asynchronous copies, of each thread by itself, 4, 8 or 16 aligned bytes; `source_bytes` of them are read, the rest
// becomes zero. What they bring is there after copy_wait() for this thread, and after a barrier behind it for others.
// A thread waits for all that it began before it ends.
//   copy_async<Bytes>(SharedTarget shared, const void* global)   copy_async<Bytes>(shared, global, unsigned source_bytes)
//   SharedTarget: from a void*; target + bytes. Made once for several copies, since a GPU computes it.
//   copy_commit(): what was begun since the last one is a group   copy_wait<N>(): all groups but the newest N are there
//
// Global memory, aligned; read: all of it must have been written.
//   uint4 load16(const void*)   uint2 load8(const void*)   void store16(void*, uint4)   __ldg(const T*)
//   uint4 load16_once(const void*)   uint2 load8_once(const void*): not kept in the L1 cache, for weights that nobody
//   writes
//
// Conversions; to 16 bits: to nearest even. A pair: the first value in the lower half.
//   Half to_half(float)   Bfloat to_bfloat(float)   float to_float(Half)   float to_float(Bfloat)
//   uint32_t pack_half(float, float)   uint32_t pack_bfloat(float, float)
//   float2 unpack_half(uint32_t)   float2 unpack_bfloat(uint32_t)
//   int dot4_u8s8(uint32_t unsigned_bytes, uint32_t signed_bytes, int sum)   __dp4a for bytes of one kind
//   float exp2_approx(float): 2 ulp on a GPU, subnormal results are 0
//
//   note<Panels, Tiles, Macs, Mmas, ChunkSteps, Ahead, StepBytes, SuperBytes, RecordBytes, SharedBytes>(): no
//   instruction, a line of the kernel's PTX for tools/cuda/budget. A warp multiplies `Tiles` tiles by `Panels` panels,
//   at each step `Macs` multiplications and `Mmas` mma for one of each; it copies chunks of steps, `Ahead` of them while
//   one is multiplied. Bytes: of a step of a panel, above eight steps, of a step of a tile; dynamic shared memory.
#pragma once

#include <cstdint>

#include "cuda/platform.h"

namespace llorch::cuda {

/// 16-bit floats in memory.
struct Half {
  std::uint16_t bits;
};
struct Bfloat {
  std::uint16_t bits;
};

}  // namespace llorch::cuda

#ifdef LLORCH_CUDA_EMULATED
#include "cuda/host/instructions.h"
#else
#include "cuda/driver/instructions.h"
#endif
