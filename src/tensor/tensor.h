// A tensor as it lies in a model file: name, type, shape and bytes. A view: it owns nothing.
//
// dims[0] is the contiguous dimension, as in GGUF; a weight listed [in, out] is row-major [out][in] (E-09).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/assert.h"
#include "tensor/dtype.h"

namespace llorch {

struct TensorView {
  std::string name;
  DType type = DType::kF32;
  int n_dims = 1;
  std::array<std::uint64_t, 4> dims{1, 1, 1, 1};
  std::span<const std::byte> data;

  [[nodiscard]] std::uint64_t columns() const { return dims[0]; }
  [[nodiscard]] std::uint64_t rows() const { return dims[1] * dims[2] * dims[3]; }
  [[nodiscard]] std::uint64_t values() const { return columns() * rows(); }

  /// Rows first..first+count of the matrix, as a tensor [columns, count] over the same bytes.
  [[nodiscard]] TensorView slice(std::uint64_t first, std::uint64_t count) const {
    LLORCH_ASSERT(first + count <= rows(), "slice outside the tensor");
    const std::uint64_t row = row_bytes(type, columns());
    TensorView part = *this;
    part.n_dims = 2;
    part.dims = {columns(), count, 1, 1};
    part.data = data.subspan(first * row, count * row);
    return part;
  }
};

}  // namespace llorch
