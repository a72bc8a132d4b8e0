#include "cuda/kernel/rows.h"

#include "cuda/kernel/activated.h"
#include "cuda/kernel/block.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kValueThreads = 256;
/// The row of this block.
__device__ std::int64_t this_row() { return blockIdx.x; }
/// The value of this thread.
__device__ std::int64_t this_value() { return static_cast<std::int64_t>(blockIdx.x) * kValueThreads + threadIdx.x; }

__global__ void __launch_bounds__(kRowThreadsMax) rms_norm_kernel(NormCall c) {
  auto& sums = *shared<BlockSums>();
  const float* x = c.x + this_row() * c.width;
  const float* weight = c.weight + this_row() % c.weight_rows * c.width;
  float* out = c.out + this_row() * c.width;
  float squares = 0.0f;
  for (std::int64_t i = threadIdx.x; i < c.width; i += blockDim.x) squares = fmaf(x[i], x[i], squares);
  squares = block_sum(squares, sums);
  bool bad = !isfinite(squares);
  // Where the sum overflows, the row is not finite, though 1 / sqrt(inf) would make it zeros.
  const float scale = bad ? __int_as_float(0x7fc00000) : 1.0f / sqrtf(squares / static_cast<float>(c.width) + c.eps);
  for (std::int64_t i = threadIdx.x; i < c.width; i += blockDim.x) {
    out[i] = x[i] * scale * weight[i];
    bad |= !isfinite(out[i]);
  }
  if (c.mark.faults) spoil_row(c.mark, this_row(), bad, out, c.width);
}

__global__ void __launch_bounds__(kRowThreadsMax) layer_norm_kernel(NormCall c) {
  auto& sums = *shared<BlockSums>();
  const float* x = c.x + this_row() * c.width;
  float* out = c.out + this_row() * c.width;
  float sum = 0.0f, squares = 0.0f;
  for (std::int64_t i = threadIdx.x; i < c.width; i += blockDim.x) sum += x[i];
  const float mean = block_sum(sum, sums) / static_cast<float>(c.width);
  for (std::int64_t i = threadIdx.x; i < c.width; i += blockDim.x) {
    const float off = x[i] - mean;
    squares = fmaf(off, off, squares);
  }
  squares = block_sum(squares, sums);
  bool bad = !isfinite(squares);
  const float scale = bad ? __int_as_float(0x7fc00000) : 1.0f / sqrtf(squares / static_cast<float>(c.width) + c.eps);
  for (std::int64_t i = threadIdx.x; i < c.width; i += blockDim.x) {
    out[i] = fmaf((x[i] - mean) * scale, c.weight[i], c.bias[i]);
    bad |= !isfinite(out[i]);
  }
  if (c.mark.faults) spoil_row(c.mark, this_row(), bad, out, c.width);
}

__global__ void __launch_bounds__(kRowThreadsMax)
    check_kernel(float* x, std::int64_t width, float limit, FaultMark mark) {
  float* row = x + this_row() * width;
  bool bad = false;
  for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) bad |= !(fabsf(row[i]) <= limit);
  spoil_row(mark, this_row(), bad, row, width);
}

__global__ void __launch_bounds__(kRowThreadsMax) activate_kernel(ActivateCall c, bool gated) {
  const std::int64_t first = this_row() * c.width;
  bool bad = false;
  for (std::int64_t i = threadIdx.x; i < c.width; i += blockDim.x) {
    const float value = activated(c.kind, c.gate[first + i], gated ? c.up[first + i] : 0.0f);
    c.out[first + i] = value;
    bad |= !isfinite(value);
  }
  spoil_row(c.mark, this_row(), bad, c.out + first, c.width);
}

__global__ void __launch_bounds__(kValueThreads)
    add_kernel(const float* x, float scale, std::int64_t count, float* out) {
  const std::int64_t i = this_value();
  if (i < count) out[i] = fmaf(scale, x[i], out[i]);
}
__global__ void __launch_bounds__(kValueThreads) scale_kernel(float* x, float scale, std::int64_t count) {
  const std::int64_t i = this_value();
  if (i < count) x[i] *= scale;
}
__global__ void __launch_bounds__(kValueThreads)
    gate_kernel(const float* gate, std::int64_t values_of_gate, std::int64_t count, float* x) {
  const std::int64_t i = this_value();
  if (i < count) x[i] *= sigmoid(gate[i / values_of_gate]);
}
__global__ void __launch_bounds__(kValueThreads) soft_cap_kernel(float* x, float cap, std::int64_t count) {
  const std::int64_t i = this_value();
  if (i < count) x[i] = cap * tanhf(x[i] / cap);
}
__global__ void __launch_bounds__(kValueThreads) multiply_kernel(const float* x, std::int64_t count, float* out) {
  const std::int64_t i = this_value();
  if (i < count) out[i] *= x[i];
}

__global__ void __launch_bounds__(kRowThreadsMax)
    copy_columns_kernel(const float* __restrict__ x, std::int64_t x_stride, std::int64_t count, float* __restrict__ out,
                        std::int64_t out_stride) {
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x)
    out[this_row() * out_stride + i] = x[this_row() * x_stride + i];
}
__global__ void __launch_bounds__(kRowThreadsMax)
    select_kernel(const float* __restrict__ x, std::int64_t width, const std::int32_t* __restrict__ rows,
                  float* __restrict__ out) {
  const float* from = x + rows[this_row()] * width;
  for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) out[this_row() * width + i] = from[i];
}

dim3 grid_of(std::int64_t rows) { return static_cast<unsigned>(rows); }

}  // namespace

void rms_norm(StreamHandle stream, const NormCall& c) {
  if (c.rows > 0) launch(rms_norm_kernel, grid_of(c.rows), row_threads(c.width), sizeof(BlockSums), stream, c);
}
void layer_norm(StreamHandle stream, const NormCall& c) {
  if (c.rows > 0) launch(layer_norm_kernel, grid_of(c.rows), row_threads(c.width), sizeof(BlockSums), stream, c);
}
void check_rows(StreamHandle stream, float* x, std::int64_t rows, std::int64_t width, float limit,
                const FaultMark& mark) {
  if (rows > 0) launch(check_kernel, grid_of(rows), row_threads(width), 0, stream, x, width, limit, mark);
}
void activate(StreamHandle stream, const ActivateCall& c) {
  if (c.rows > 0) launch(activate_kernel, grid_of(c.rows), row_threads(c.width), 0, stream, c, c.kind.gated());
}
void add_values(StreamHandle stream, const float* x, float scale, std::int64_t count, float* out) {
  if (count > 0) launch(add_kernel, blocks_for(count, kValueThreads), kValueThreads, 0, stream, x, scale, count, out);
}
void scale_values(StreamHandle stream, float* x, float scale, std::int64_t count) {
  if (count > 0) launch(scale_kernel, blocks_for(count, kValueThreads), kValueThreads, 0, stream, x, scale, count);
}
void gate_values(StreamHandle stream, const float* gate, bool of_rows, std::int64_t rows, std::int64_t width,
                 float* x) {
  const std::int64_t count = rows * width, values_of_gate = of_rows ? width : 1;
  if (count > 0)
    launch(gate_kernel, blocks_for(count, kValueThreads), kValueThreads, 0, stream, gate, values_of_gate, count, x);
}
void soft_cap_values(StreamHandle stream, float* x, float cap, std::int64_t count) {
  if (count > 0) launch(soft_cap_kernel, blocks_for(count, kValueThreads), kValueThreads, 0, stream, x, cap, count);
}
void multiply_values(StreamHandle stream, const float* x, std::int64_t count, float* out) {
  if (count > 0) launch(multiply_kernel, blocks_for(count, kValueThreads), kValueThreads, 0, stream, x, count, out);
}
void copy_columns(StreamHandle stream, const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t count,
                  float* out, std::int64_t out_stride) {
  if (rows > 0 && count > 0)
    launch(copy_columns_kernel, grid_of(rows), row_threads(count), 0, stream, x, x_stride, count, out, out_stride);
}
void select_rows(StreamHandle stream, const float* x, std::int64_t width, const std::int32_t* rows, std::int64_t count,
                 float* out) {
  if (count > 0) launch(select_kernel, grid_of(count), row_threads(width), 0, stream, x, width, rows, out);
}

}  // namespace llorch::cuda
