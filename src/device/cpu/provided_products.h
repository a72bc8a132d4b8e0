// Rows, weights and outputs in the one shape that a provider multiplies (device/cpu/product_provider.h).
//
// Weights stay as they lie in the file; a thread expands kOutputs rows of one to floats, (blocks of kColumns, kOutputs,
// kColumns), and multiplies them by all rows of the step. Columns, rows and outputs that are missing in a block are
// zeros. Memory: of each thread one such expansion (kOutputs * columns floats, kept), of the device the rows of one
// product, as floats. Threads: resize() first, then convert_row() and clear_row() of different rows and compute() from
// any threads.
#pragma once

#include <cstdint>
#include <vector>

#include "device/cpu/product_provider.h"
#include "tensor/dtype.h"

namespace llorch {

/// Floats at a multiple of 64 bytes, zeros at first. Grows, and then keeps nothing of what it held.
class FloatLines {
 public:
  void grow(std::int64_t floats) {
    const auto lines = static_cast<std::size_t>((floats + 15) / 16);
    if (lines_.size() < lines) lines_ = std::vector<Line>(lines);
  }
  [[nodiscard]] float* data() { return reinterpret_cast<float*>(lines_.data()); }
  [[nodiscard]] const float* data() const { return reinterpret_cast<const float*>(lines_.data()); }

 private:
  struct alignas(64) Line {
    float values[16];
  };
  std::vector<Line> lines_;
};

class ProvidedProducts {
 public:
  /// One weight's outputs first_output..last_output-1 for `rows` converted rows from `first_row`, a multiple of kRows.
  struct Call {
    const std::uint8_t* weight;  // row 0, in its file's layout
    DType type;
    std::int64_t columns;
    std::int64_t first_output, last_output;
    std::int64_t first_row, rows;
    const float* bias;  // by output, or null
    float* out;         // rows x out_stride
    std::int64_t out_stride;
  };

  explicit ProvidedProducts(const ProductProvider& provider) : provider_(provider) {}

  void resize(std::int64_t rows, std::int64_t columns);
  void convert_row(std::int64_t row, const float* x);
  /// A row that only fills its tile.
  void clear_row(std::int64_t row);
  void compute(const Call& call) const;

 private:
  /// Of the first value of a row's columns block * kColumns and on.
  [[nodiscard]] std::int64_t place(std::int64_t row, std::int64_t block) const;

  const ProductProvider& provider_;
  std::int64_t columns_ = 0, blocks_ = 0;
  FloatLines rows_;  // (rows / kRows, blocks, kRows, kColumns)
};

}  // namespace llorch
