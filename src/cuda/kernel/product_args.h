// What the kernels of products take, and the function of each form of weights that launches them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/product.h"
#include "tensor/dtype.h"

namespace llorch::cuda {

/// Which changes no bit.
enum class ProductKernel { kChosen, kSplit, kWide };

struct ProductArgs {
  const std::byte* weights;  // panels of 16 rows
  std::int64_t panel_bytes;
  int panels, outputs;  // outputs: rows of the weight
  int columns, steps;   // steps: of 32 columns
  const void* records;  // records.h
  int rows, tiles;      // of activations
  const float* bias;    // or null
  float* out;
  std::int64_t out_stride;
  ProductKernel kernel;
};

[[nodiscard]] ProductArgs product_args(const Matrix& matrix, std::int64_t part, const void* records, std::int64_t rows,
                                       const float* bias, float* out, std::int64_t out_stride);
void launch_product(StreamHandle stream, DType type, const ProductArgs& args);

/// Launches; instantiated by one unit for each type.
template<DType kType>
void multiply_type(StreamHandle stream, const ProductArgs& args);

}  // namespace llorch::cuda
