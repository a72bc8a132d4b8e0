#include "cuda/kernel/naive_product.h"

#include "cuda/kernel/block.h"
#include "cuda/kernel/rows.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 128;

/// A thread for each output of a row.
__global__ void __launch_bounds__(kThreads) naive_multiply_kernel(ChosenProduct p) {
  const std::int64_t row = blockIdx.x, n = static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (n >= p.matrix.rows) return;
  const std::int64_t part = p.chosen ? p.chosen[row * p.chosen_stride] : 0;
  const std::int64_t panels = (p.matrix.rows + kNaivePanelRows - 1) / kNaivePanelRows;
  const auto* panel =
      reinterpret_cast<const float*>(p.matrix.panels + (part * panels + n / kNaivePanelRows) * p.matrix.panel_bytes) +
      n % kNaivePanelRows;
  const float scale = p.input_scale ? p.input_scale[row * p.chosen_stride] : 1.0f;
  const float* x = p.x + row * p.x_stride;
  float sum = 0.0f;
  for (std::int64_t i = 0; i < p.matrix.columns; ++i) sum = fmaf(panel[i * kNaivePanelRows], x[i] * scale, sum);
  p.out[row * p.out_stride + n] = p.bias ? sum + p.bias[part * p.matrix.rows + n] : sum;
}

}  // namespace

std::size_t activation_bytes(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows * columns) * sizeof(float);
}

void convert_rows(StreamHandle stream, DType, const float* x, std::int64_t x_stride, std::int64_t rows,
                  std::int64_t columns, void* room) {
  copy_columns(stream, x, x_stride, rows, columns, static_cast<float*>(room), columns);
}

void multiply_chosen(StreamHandle stream, const ChosenProduct& p) {
  if (p.rows == 0) return;
  launch(naive_multiply_kernel, dim3(static_cast<unsigned>(p.rows), blocks_for(p.matrix.rows, kThreads)), kThreads, 0,
         stream, p);
}

void multiply(StreamHandle stream, const Matrix& matrix, std::int64_t part, const void* room, std::int64_t rows,
              const float* bias, float* out, std::int64_t out_stride) {
  const std::int64_t panels = (matrix.rows + kNaivePanelRows - 1) / kNaivePanelRows;
  ChosenProduct p{.matrix = matrix, .bias = bias, .x = static_cast<const float*>(room), .x_stride = matrix.columns};
  p.matrix.panels += part * panels * matrix.panel_bytes;
  p.rows = rows, p.out = out, p.out_stride = out_stride;
  multiply_chosen(stream, p);
}

}  // namespace llorch::cuda
