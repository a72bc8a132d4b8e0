// Small kernels for the tests of this module: each uses a part of what kernels are made of. All pointers are device
// memory.
#pragma once

#include <cstdint>

#include "cuda/handles.h"

namespace llorch::cuda::sample {

/// out[b] = the sum of the 256 values of block b, by a tree in shared memory.
void sum_blocks(StreamHandle stream, const float* in, float* out, unsigned blocks);
/// out[w] = the sum of 32 values, out_scan[i] = the sum of those up to i in its warp; by shuffles. count: a multiple of
/// 128.
void sum_warps(StreamHandle stream, const int* in, int* out, int* out_scan, unsigned count);
/// total[0] = how many values are positive, by ballots and an atomic addition. count: a multiple of 128.
void count_positive(StreamHandle stream, const int* in, int* total, unsigned count);
/// out[i] = in[i] * factor.
void scale(StreamHandle stream, const float* in, float* out, float factor, unsigned count);
/// Each value by way of 16 bits: to_float(to_half(in[i])), to_float(to_bfloat(in[i])).
void round_trip(StreamHandle stream, const float* in, float* halves, float* bfloats, unsigned count);

/// d (m, n) = a (m, k) * b (n, k) transposed; both with k contiguous. m a multiple of 64, n of 8, k of 64 bytes. By
/// three stages of asynchronous copies, ldmatrix and mma.
void product_bf16(StreamHandle stream, const std::uint16_t* a, const std::uint16_t* b, float* d, unsigned m, unsigned n,
                  unsigned k);
void product_f16(StreamHandle stream, const std::uint16_t* a, const std::uint16_t* b, float* d, unsigned m, unsigned n,
                 unsigned k);
void product_s8(StreamHandle stream, const std::int8_t* a, const std::int8_t* b, int* d, unsigned m, unsigned n,
                unsigned k);
void product_u8s8(StreamHandle stream, const std::uint8_t* a, const std::int8_t* b, int* d, unsigned m, unsigned n,
                  unsigned k);
/// d (16, 8) = a (16, 16) * b (16, 8), b with its columns contiguous: ldmatrix_transposed.
void product_transposed(StreamHandle stream, const std::uint16_t* a, const std::uint16_t* b, float* d);

}  // namespace llorch::cuda::sample
