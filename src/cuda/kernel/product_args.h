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

/// One of the matrices of a launch, whose panels are numbered from first_panel on.
struct LaunchedMatrix {
  const std::byte* weights;  // of grouped products those of part 0
  const float* bias;         // the same; or null
  float* out;
  std::int64_t out_stride;
  int outputs, first_panel;  // outputs: rows of the weight
};
constexpr int kMatricesMax = 4;

struct ProductArgs {
  LaunchedMatrix matrices[kMatricesMax];  // of one type and as many columns
  int matrix_count, panels;               // panels: of all
  std::int64_t panel_bytes;
  int steps;            // of 32 columns
  const void* records;  // records.h
  int rows, tiles;      // of activations
  ProductKernel kernel;

  // Grouped products; runs: null for others.
  const ProductRun* runs;
  int run_count, run_tiles;      // run_tiles: that a run has at most, 1, 4 or 8
  const std::int32_t* out_rows;  // of each row of activations: where it goes; null: to its own
};

/// Without matrices.
[[nodiscard]] ProductArgs product_args(const Matrix& like, const void* records, std::int64_t rows);
/// There are fewer than kMatricesMax.
void add_matrix(ProductArgs& args, const Product& product);
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
