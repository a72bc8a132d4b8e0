// Matrix products on a CUDA device: what src/device/cuda/ calls. All pointers are device memory; shapes are the
// caller's duty. Launches only: nothing waits.
//
// A row's results depend on the row and the weight alone, not on how many rows come with it: one multiply instruction
// and one order over the columns for any number of rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cuda/handles.h"
#include "tensor/dtype.h"

namespace llorch::cuda {

/// Rows of a panel.
inline constexpr int kPanelRows = 16;
/// Bytes of one panel, for a type that kernel::can_pack().
[[nodiscard]] std::int64_t panel_bytes(DType type, std::int64_t columns);
/// Packs one panel, on the host: panel_layout.h. `rows` (1 to kPanelRows) rows of a file start at `source`, row_bytes()
/// apart; missing rows become zeros. From several threads.
void pack_panel(DType type, std::int64_t columns, const std::byte* source, int rows, std::byte* out);

/// A packed weight: `parts` matrices (rows, columns), one behind the other, each ceil(rows / 16) panels.
struct Matrix {
  DType type = DType::kF32;
  const std::byte* panels = nullptr;
  std::int64_t rows = 0, columns = 0, parts = 1, panel_bytes = 0;
};

/// Bytes of room that rows of activations take in the form that products with weights of any type read.
[[nodiscard]] std::size_t activation_bytes(std::int64_t rows, std::int64_t columns);

/// Brings rows of x (x_stride floats apart) into that form for weights of `type`. `room`: activation_bytes().
void convert_rows(StreamHandle stream, DType type, const float* x, std::int64_t x_stride, std::int64_t rows,
                  std::int64_t columns, void* room);

/// Whether rows that were converted for weights of `a` serve weights of `b`.
[[nodiscard]] bool share_rows(DType a, DType b);

/// out (rows, matrix.rows; out_stride floats apart) = rows times part `part` of the matrix transposed, plus bias.
struct Product {
  const Matrix* matrix;
  std::int64_t part;
  const float* bias;  // of the part, or null
  float* out;
  std::int64_t out_stride;
};
/// Products with the same converted rows; the matrices share_rows() and have as many columns. Neighbours of one type
/// are multiplied by one launch.
void multiply(StreamHandle stream, std::span<const Product> products, const void* room, std::int64_t rows);

}  // namespace llorch::cuda
