// Temporary: products by plain sums over weights that are floats, until kernel/product.cu is there. Panels of 16 rows,
// [column][row].
#pragma once

#include "cuda/kernel/product.h"

namespace llorch::cuda {

constexpr std::int64_t kNaivePanelRows = 16;

/// Row r of x times the part that chosen[r * chosen_stride] names; x is multiplied by input_scale[r * chosen_stride]
/// first, where that is not null.
struct ChosenProduct {
  Matrix matrix;
  const float* bias = nullptr;  // (parts, rows of the matrix), or null
  const std::int32_t* chosen = nullptr;
  const float* input_scale = nullptr;
  std::int64_t chosen_stride = 1;
  const float* x = nullptr;
  std::int64_t x_stride = 0, rows = 0;
  float* out = nullptr;
  std::int64_t out_stride = 0;
};
void multiply_chosen(StreamHandle stream, const ChosenProduct& product);

}  // namespace llorch::cuda
