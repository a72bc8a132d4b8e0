#include "cuda/kernel/roofline.h"

#include "cuda/instructions.h"
#include "cuda/launch.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 256, kLoads = 4;  // loads in flight of a thread
constexpr int kProducts = 8, kSums = 16;        // independent ones, so that the next does not wait for the last
static_assert(kThreads == kRoundValues);

struct WarpWords {
  uint4 words[kThreads / 32];
};

__device__ uint4 combine(uint4 a, uint4 b) { return make_uint4(a.x ^ b.x, a.y ^ b.y, a.z ^ b.z, a.w ^ b.w); }

__device__ std::int64_t first_word() { return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; }
__device__ std::int64_t stride() { return static_cast<std::int64_t>(gridDim.x) * kThreads; }

/// Of a warp, in all lanes.
__device__ uint4 combine_lanes(uint4 v) {
  for (int offset = 16; offset > 0; offset /= 2) {
    v.x ^= __shfl_xor_sync(0xffffffff, v.x, offset);
    v.y ^= __shfl_xor_sync(0xffffffff, v.y, offset);
    v.z ^= __shfl_xor_sync(0xffffffff, v.z, offset);
    v.w ^= __shfl_xor_sync(0xffffffff, v.w, offset);
  }
  return v;
}

__global__ void __launch_bounds__(kThreads) read_kernel(const uint4* in, std::int64_t words, uint4* out) {
  auto& warps = *shared<WarpWords>();
  uint4 all[kLoads] = {};
  const std::int64_t step = stride();
  std::int64_t i = first_word();
  for (; i + (kLoads - 1) * step < words; i += kLoads * step) {
#pragma unroll
    for (unsigned k = 0; k < kLoads; ++k) all[k] = combine(all[k], load16_once(in + i + k * step));
  }
  for (; i < words; i += step) all[0] = combine(all[0], load16_once(in + i));
  const uint4 mine = combine_lanes(combine(combine(all[0], all[1]), combine(all[2], all[3])));
  if (threadIdx.x % 32 == 0) warps.words[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x > 0) return;
  uint4 block = warps.words[0];
  for (unsigned w = 1; w < kThreads / 32; ++w) block = combine(block, warps.words[w]);
  store16(out + blockIdx.x, block);
}

__global__ void __launch_bounds__(kThreads) copy_kernel(const uint4* in, std::int64_t words, uint4* out) {
  const std::int64_t step = stride();
  std::int64_t i = first_word();
  for (; i + (kLoads - 1) * step < words; i += kLoads * step) {
    uint4 v[kLoads];
#pragma unroll
    for (unsigned k = 0; k < kLoads; ++k) v[k] = load16_once(in + i + k * step);
#pragma unroll
    for (unsigned k = 0; k < kLoads; ++k) store16(out + i + k * step, v[k]);
  }
  for (; i < words; i += step) store16(out + i, load16_once(in + i));
}

/// mma of ones, whose result is written: what is not needed would not be computed.
template<class Number, class Multiply>
__device__ void multiply_ones(unsigned rounds, std::uint32_t ones, Number* out, const Multiply& multiply) {
  const std::uint32_t a[4] = {ones, ones, ones, ones}, b[2] = {ones, ones};
  Number d[kProducts][4] = {};
  for (unsigned r = 0; r < rounds; ++r) {
#pragma unroll
    for (auto& each : d) multiply(each, a, b);
  }
  Number sum = 0;
#pragma unroll
  for (const auto& each : d) sum += each[0] + each[1] + each[2] + each[3];
  out[first_word()] = sum;
}

__global__ void __launch_bounds__(kThreads) bf16_kernel(unsigned rounds, std::uint32_t ones, float* out) {
  multiply_ones(rounds, ones, out, [](auto& d, auto& a, auto& b) { mma_bf16(d, a, b); });
}

__global__ void __launch_bounds__(kThreads) s8_kernel(unsigned rounds, std::uint32_t ones, int* out) {
  multiply_ones(rounds, ones, out, [](auto& d, auto& a, auto& b) { mma_s8(d, a, b); });
}

__global__ void __launch_bounds__(kThreads) f32_kernel(unsigned rounds, float one, float* out) {
  float sums[kSums] = {};
  for (unsigned r = 0; r < rounds; ++r) {
#pragma unroll
    for (float& sum : sums) sum = fmaf(one, one, sum);
  }
  float all = 0;
#pragma unroll
  for (const float sum : sums) all += sum;
  out[first_word()] = all;
}

constexpr std::uint32_t kOnesBf16 = 0x3f803f80, kOnesS8 = 0x01010101;

}  // namespace

void read_words(StreamHandle stream, const void* in, std::int64_t words, void* out, unsigned blocks) {
  launch(read_kernel, blocks, kThreads, sizeof(WarpWords), stream, static_cast<const uint4*>(in), words,
         static_cast<uint4*>(out));
}
void copy_words(StreamHandle stream, const void* in, std::int64_t words, void* out, unsigned blocks) {
  launch(copy_kernel, blocks, kThreads, 0, stream, static_cast<const uint4*>(in), words, static_cast<uint4*>(out));
}
void multiply_bf16(StreamHandle stream, unsigned blocks, unsigned rounds, float* out) {
  launch(bf16_kernel, blocks, kThreads, 0, stream, rounds, kOnesBf16, out);
}
void multiply_s8(StreamHandle stream, unsigned blocks, unsigned rounds, int* out) {
  launch(s8_kernel, blocks, kThreads, 0, stream, rounds, kOnesS8, out);
}
void multiply_f32(StreamHandle stream, unsigned blocks, unsigned rounds, float* out) {
  launch(f32_kernel, blocks, kThreads, 0, stream, rounds, 1.0f, out);
}

}  // namespace llorch::cuda
