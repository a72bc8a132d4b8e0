#include "cuda/sample_kernels.h"

#include "cuda/instructions.h"
#include "cuda/launch.h"

namespace llorch::cuda::sample {
namespace {

constexpr unsigned kAll = 0xffffffffu;

// --- sums

constexpr unsigned kSumThreads = 256;
struct SumTile {
  float values[kSumThreads];
};

__global__ void __launch_bounds__(kSumThreads)
    sum_blocks_kernel(const float* __restrict__ in, float* __restrict__ out) {
  auto& tile = *shared<SumTile>();
  const unsigned i = threadIdx.x;
  tile.values[i] = in[blockIdx.x * kSumThreads + i];
  for (unsigned half = kSumThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (i < half) tile.values[i] += tile.values[i + half];
  }
  if (i == 0) out[blockIdx.x] = tile.values[0];
}

constexpr unsigned kWarpThreads = 128;

__global__ void __launch_bounds__(kWarpThreads)
    sum_warps_kernel(const int* __restrict__ in, int* __restrict__ out, int* __restrict__ out_scan) {
  const unsigned i = blockIdx.x * kWarpThreads + threadIdx.x, lane = threadIdx.x % 32;
  const int value = in[i];
  int sum = value;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
  int scan = value;
  for (unsigned step = 1; step < 32; step *= 2) {
    const int before = __shfl_up_sync(kAll, scan, step);
    if (lane >= step) scan += before;
  }
  out_scan[i] = scan;
  if (lane == 0) out[i / 32] = sum;
}

__global__ void __launch_bounds__(kWarpThreads) count_positive_kernel(const int* __restrict__ in, int* total) {
  const unsigned votes = __ballot_sync(kAll, in[blockIdx.x * kWarpThreads + threadIdx.x] > 0);
  if (threadIdx.x % 32 == 0) atomicAdd(total, __popc(votes));
}

// --- values

__global__ void scale_kernel(const float* __restrict__ in, float* __restrict__ out, float factor, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = in[i] * factor;
}

__global__ void round_trip_kernel(const float* __restrict__ in, float* __restrict__ halves, float* __restrict__ bfloats,
                                  unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  halves[i] = to_float(to_half(in[i]));
  bfloats[i] = unpack_bfloat(pack_bfloat(0.0f, in[i])).y;
}

// --- products

constexpr unsigned kRows = 64, kColumns = 8;  // of d, for a block of four warps: 16 rows each
constexpr unsigned kBytes = 64;               // of k in a stage: two steps of mma
constexpr unsigned kStride = kBytes + 16;     // rows of a matrix of ldmatrix fall into different banks
constexpr unsigned kStages = 3;
constexpr unsigned kProductThreads = 128;
struct ProductTile {
  struct Stage {
    alignas(16) unsigned char a[kRows][kStride], b[kColumns][kStride];
  } stages[kStages];
};

struct Bf16 {
  using Sum = float;
  static __device__ void multiply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    mma_bf16(d, a, b);
  }
};
struct F16 {
  using Sum = float;
  static __device__ void multiply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    mma_f16(d, a, b);
  }
};
struct S8 {
  using Sum = int;
  static __device__ void multiply(int (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    mma_s8(d, a, b);
  }
};
struct U8S8 {
  using Sum = int;
  static __device__ void multiply(int (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    mma_u8s8(d, a, b);
  }
};

/// Begins the copies of one stage: 64 + 8 rows of 64 bytes, 16 bytes for a thread at a time. Always one group.
__device__ void begin_stage(ProductTile::Stage& stage, const unsigned char* a, const unsigned char* b, unsigned k_bytes,
                            unsigned step) {
  constexpr unsigned kPieces = kBytes / 16;
  if (step < k_bytes / kBytes)
    for (unsigned piece = threadIdx.x; piece < (kRows + kColumns) * kPieces; piece += kProductThreads) {
      const unsigned row = piece / kPieces, column = piece % kPieces * 16;
      const std::size_t from = std::size_t{step} * kBytes + column;
      if (row < kRows)
        copy_async<16>(&stage.a[row][column], a + (blockIdx.x * std::size_t{kRows} + row) * k_bytes + from);
      else
        copy_async<16>(&stage.b[row - kRows][column],
                       b + (blockIdx.y * std::size_t{kColumns} + row - kRows) * k_bytes + from);
    }
  copy_commit();
}

template<class Type>
__global__ void __launch_bounds__(kProductThreads)
    product_kernel(const unsigned char* __restrict__ a, const unsigned char* __restrict__ b,
                   typename Type::Sum* __restrict__ d, unsigned n, unsigned k_bytes) {
  auto& tile = *shared<ProductTile>();
  const unsigned lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16;
  typename Type::Sum sums[4] = {};
  for (unsigned step = 0; step < kStages - 1; ++step) begin_stage(tile.stages[step], a, b, k_bytes, step);
  for (unsigned step = 0; step < k_bytes / kBytes; ++step) {
    copy_wait<kStages - 2>();
    __syncthreads();  // the stage is there for all, and the one that is filled next is free
    begin_stage(tile.stages[(step + kStages - 1) % kStages], a, b, k_bytes, step + kStages - 1);
    const auto& stage = tile.stages[step % kStages];
#pragma unroll
    for (unsigned at = 0; at < kBytes; at += 32) {
      std::uint32_t left[4], right[2];
      ldmatrix(left, &stage.a[row + lane % 16][at + lane / 16 * 16]);
      ldmatrix(right, &stage.b[lane % 8][at + lane / 8 % 2 * 16]);
      Type::multiply(sums, left, right);
    }
  }
  copy_wait<0>();
  const unsigned column = blockIdx.y * kColumns + lane % 4 * 2;
  const std::size_t top = blockIdx.x * std::size_t{kRows} + row + lane / 4;
  d[top * n + column] = sums[0];
  d[top * n + column + 1] = sums[1];
  d[(top + 8) * n + column] = sums[2];
  d[(top + 8) * n + column + 1] = sums[3];
}

struct TransposedTile {
  alignas(16) std::uint16_t a[16][16], b[16][8];
};

__global__ void product_transposed_kernel(const std::uint16_t* __restrict__ a, const std::uint16_t* __restrict__ b,
                                          float* __restrict__ d) {
  auto& tile = *shared<TransposedTile>();
  const unsigned lane = threadIdx.x;
  store16(&tile.a[lane / 2][lane % 2 * 8], load16(a + lane * 8));
  if (lane < 16) store16(&tile.b[lane][0], load16_once(b + lane * 8));
  __syncwarp();
  std::uint32_t left[4], right[2];
  ldmatrix(left, &tile.a[lane % 16][lane / 16 * 8]);
  ldmatrix_transposed(right, &tile.b[lane % 16][0]);
  float sums[4] = {};
  mma_bf16(sums, left, right);
  for (unsigned i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

constexpr unsigned kValueThreads = 96;
dim3 blocks_of(unsigned count, unsigned threads) { return (count + threads - 1) / threads; }

template<class Type>
void product(StreamHandle stream, const void* a, const void* b, typename Type::Sum* d, unsigned m, unsigned n,
             unsigned k_bytes) {
  launch(product_kernel<Type>, dim3(m / kRows, n / kColumns), kProductThreads, sizeof(ProductTile), stream,
         static_cast<const unsigned char*>(a), static_cast<const unsigned char*>(b), d, n, k_bytes);
}

}  // namespace

void sum_blocks(StreamHandle stream, const float* in, float* out, unsigned blocks) {
  launch(sum_blocks_kernel, blocks, kSumThreads, sizeof(SumTile), stream, in, out);
}
void sum_warps(StreamHandle stream, const int* in, int* out, int* out_scan, unsigned count) {
  launch(sum_warps_kernel, blocks_of(count, kWarpThreads), kWarpThreads, 0, stream, in, out, out_scan);
}
void count_positive(StreamHandle stream, const int* in, int* total, unsigned count) {
  launch(count_positive_kernel, blocks_of(count, kWarpThreads), kWarpThreads, 0, stream, in, total);
}
void scale(StreamHandle stream, const float* in, float* out, float factor, unsigned count) {
  launch(scale_kernel, blocks_of(count, kValueThreads), kValueThreads, 0, stream, in, out, factor, count);
}
void round_trip(StreamHandle stream, const float* in, float* halves, float* bfloats, unsigned count) {
  launch(round_trip_kernel, blocks_of(count, kValueThreads), kValueThreads, 0, stream, in, halves, bfloats, count);
}
void product_bf16(StreamHandle stream, const std::uint16_t* a, const std::uint16_t* b, float* d, unsigned m, unsigned n,
                  unsigned k) {
  product<Bf16>(stream, a, b, d, m, n, 2 * k);
}
void product_f16(StreamHandle stream, const std::uint16_t* a, const std::uint16_t* b, float* d, unsigned m, unsigned n,
                 unsigned k) {
  product<F16>(stream, a, b, d, m, n, 2 * k);
}
void product_s8(StreamHandle stream, const std::int8_t* a, const std::int8_t* b, int* d, unsigned m, unsigned n,
                unsigned k) {
  product<S8>(stream, a, b, d, m, n, k);
}
void product_u8s8(StreamHandle stream, const std::uint8_t* a, const std::int8_t* b, int* d, unsigned m, unsigned n,
                  unsigned k) {
  product<U8S8>(stream, a, b, d, m, n, k);
}
void product_transposed(StreamHandle stream, const std::uint16_t* a, const std::uint16_t* b, float* d) {
  launch(product_transposed_kernel, 1, 32, sizeof(TransposedTile), stream, a, b, d);
}

}  // namespace llorch::cuda::sample
