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

/// Of a grouped product: some tiles of rows that one part of the matrix multiplies; part < 0: none.
struct ProductRun {
  std::int32_t part, tile, rows;  // rows: from the tile's first on
};

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

  // Grouped products; runs: null for others.
  const ProductRun* runs;
  int run_count, run_tiles;      // run_tiles: that a run has at most, 1, 4 or 8
  std::int64_t part_bytes;       // from one part of the matrix, and its `outputs` of bias, to the next
  const std::int32_t* out_rows;  // of each row of activations: where it goes; null: to its own
};

[[nodiscard]] ProductArgs product_args(const Matrix& matrix, std::int64_t part, const void* records, std::int64_t rows,
                                       const float* bias, float* out, std::int64_t out_stride);
void launch_product(StreamHandle stream, DType type, const ProductArgs& args);

/// Rows of activations that lie elsewhere. Of slot i, sources[i] is a pair: row * active + choice, or < 0: no row.
struct RowGather {
  const std::int32_t* sources;
  int active;            // 0: a slot's row is its own
  const float* factors;  // that the row of a pair is multiplied by; or null
};
/// As convert_rows(); fills `tiles` tiles of 8 slots.
void convert_gathered(StreamHandle stream, DType type, const float* x, std::int64_t x_stride, std::int64_t tiles,
                      std::int64_t columns, const RowGather& gather, void* room);

/// Launches; instantiated by one unit for each type.
template<DType kType>
void multiply_type(StreamHandle stream, const ProductArgs& args);

}  // namespace llorch::cuda
