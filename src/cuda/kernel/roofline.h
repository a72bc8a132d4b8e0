// Kernels that take as much of a device as it has: bytes of memory, multiplications of the instructions that products
// are made of. For device/cuda/cuda_roofline.h.
#pragma once

#include <cstdint>

#include "cuda/handles.h"

namespace llorch::cuda {

/// out[b] = all 16-byte words that block b read, combined by exclusive or; the blocks read all `words`.
void read_words(StreamHandle stream, const void* in, std::int64_t words, void* out, unsigned blocks);
/// The same traffic in both directions.
void copy_words(StreamHandle stream, const void* in, std::int64_t words, void* out, unsigned blocks);

/// What a block of the kernels below computes in one round: multiplications and additions.
inline constexpr double kRoundOperationsBf16 = 8.0 * 8 * 2 * 16 * 8 * 16;
inline constexpr double kRoundOperationsS8 = 8.0 * 8 * 2 * 16 * 8 * 32;
inline constexpr double kRoundOperationsF32 = 256.0 * 16 * 2;
/// How many values a block writes: a sum for each thread.
inline constexpr unsigned kRoundValues = 256;
/// `rounds` times 8 independent products of ones by each of 8 warps, m16n8k16: out[i] = 8 * 4 * 16 * rounds.
void multiply_bf16(StreamHandle stream, unsigned blocks, unsigned rounds, float* out);
/// The same with m16n8k32: out[i] = 8 * 4 * 32 * rounds.
void multiply_s8(StreamHandle stream, unsigned blocks, unsigned rounds, int* out);
/// `rounds` times 16 independent fmaf(1, 1, sum) by each thread: out[i] = 16 * rounds.
void multiply_f32(StreamHandle stream, unsigned blocks, unsigned rounds, float* out);

}  // namespace llorch::cuda
