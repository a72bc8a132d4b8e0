// Matrix products on a CUDA device: what src/device/cuda/ calls. All pointers are device memory; shapes are the
// caller's duty. Launches only: nothing waits.
//
// A row's results depend on the row and the weight alone, not on how many rows come with it: one multiply instruction
// and one order over the columns for any number of rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/handles.h"
#include "kernel/layout.h"
#include "tensor/dtype.h"

namespace llorch::cuda {

/// How weights are packed: kernel/pack.h.
inline constexpr kernel::PanelShape kPanelShape{16, true};

/// A packed weight: `parts` matrices (rows, columns), one behind the other, each ceil(rows / 16) panels of 16 rows as
/// kernel/layout.h describes them; plain formats: panels of 16 rows, columns interleaved likewise.
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

/// out (rows, matrix.rows; out_stride floats apart) = converted rows times part `part` transposed, plus bias (or null).
void multiply(StreamHandle stream, const Matrix& matrix, std::int64_t part, const void* room, std::int64_t rows,
              const float* bias, float* out, std::int64_t out_stride);

}  // namespace llorch::cuda
