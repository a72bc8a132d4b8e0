#include "cuda/kernel/low_rank.h"

#include "cuda/kernel/block.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 128;

__device__ bool uses_adapter(const Step& step, const LowRankCall& c, std::int64_t row) {
  const std::int64_t index = c.set ? c.set[c.first + row] : c.first + row;
  return step.sequences[step.rows[index].sequence].adapter == c.adapter;
}

/// inner = a(x). A warp for each row and rank.
__global__ void __launch_bounds__(32) reduce_kernel(Step step, LowRankCall c) {
  const std::int64_t row = blockIdx.x, rank = blockIdx.y;
  if (!uses_adapter(step, c, row)) return;
  const float *x = c.x + row * c.columns, *a = c.a + rank * c.columns;
  float sum = 0.0f;
  for (std::int64_t i = threadIdx.x; i < c.columns; i += 32) sum = fmaf(a[i], x[i], sum);
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  if (threadIdx.x == 0) c.inner[row * c.rank + rank] = sum;
}

__global__ void __launch_bounds__(kThreads) expand_kernel(Step step, LowRankCall c) {
  const std::int64_t row = blockIdx.x, n = static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (n >= c.outputs || !uses_adapter(step, c, row)) return;
  float sum = 0.0f;
  for (std::int64_t j = 0; j < c.rank; ++j) sum = fmaf(c.inner[row * c.rank + j], c.b[j * c.outputs + n], sum);
  float& out = c.out[row * c.outputs + n];
  out = fmaf(c.scale, sum, out);
}

}  // namespace

void add_low_rank(StreamHandle stream, const Step& step, const LowRankCall& c) {
  if (c.rows == 0) return;
  const auto rows = static_cast<unsigned>(c.rows);
  launch(reduce_kernel, dim3(rows, static_cast<unsigned>(c.rank)), 32, 0, stream, step, c);
  launch(expand_kernel, dim3(rows, blocks_for(c.outputs, kThreads)), kThreads, 0, stream, step, c);
}

}  // namespace llorch::cuda
