// Every weight type through one table: scalar reference dequantize, quantize and dot for whole rows.
//
// Rows are `n` values, n a multiple of the type's block; bytes are row_bytes(type, n). Plain types (F32, F16, BF16) are
// in the table too. These functions are the truth that every fast kernel is tested against. Threads: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "quant/format.h"
#include "tensor/tensor.h"

namespace llorch::quant {

struct RowOps {
  DType type;
  int sub;   // values that share one scale; 0 for plain types
  int zero;  // code that stands for zero
  void (*dequantize)(const std::byte* row, std::uint64_t n, float* out);
  void (*quantize)(const float* x, std::uint64_t n, std::byte* row);
  double (*dot)(const std::byte* row, const float* x, std::uint64_t n);  // products and sum in double, in element order
  void (*codes)(const std::uint8_t* block, std::uint8_t* out);           // null for plain types
  SubScale (*scale)(const std::uint8_t* block, int sub_block);           // null for plain types
};

/// nullptr for types that a weight cannot have (integers).
[[nodiscard]] const RowOps* find_row_ops(DType type);
[[nodiscard]] inline const RowOps& row_ops(DType type) { return *find_row_ops(type); }

/// Whether weights are finite, as they lie in a file: values of plain types, scales of blocks. `rows`: whole rows of the
/// tensor, from `first_row` on. Errors: kModelLoadFailed with the place.
[[nodiscard]] Status check_finite(const TensorView& tensor, std::span<const std::byte> rows, std::uint64_t first_row);

}  // namespace llorch::quant
