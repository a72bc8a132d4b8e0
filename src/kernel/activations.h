// Rows of activations in the form that an ISA's matrix product takes for a weight type: quantized, split, or as they
// are.
//
// Memory grows to the largest use and is kept. Threads: resize() first, then convert_row() of different rows from any
// threads, then fill().
#pragma once

#include <cstdint>
#include <vector>

#include "kernel/kernels.h"

namespace llorch::kernel {

class Activations {
 public:
  /// Makes room for `rows` rows of `columns` floats on the way to weights of `type`.
  void resize(const Kernels& isa, DType type, std::int64_t rows, std::int64_t columns);
  void convert_row(std::int64_t row, const float* x);
  /// Sets `rows`, `k` and the inputs of a product of `count` rows from `first` on, a multiple of kTileRows. `x`: those
  /// rows themselves, as floats (count, columns).
  void fill(LinearArgs& args, const float* x, std::int64_t first, std::int64_t count) const;
  [[nodiscard]] bool converts() const { return form_ != Form::kFloats; }
  /// True when what was converted for `type` also serves `other`.
  [[nodiscard]] static bool same_form(const Kernels& isa, DType type, DType other) {
    return form(isa, type) == form(isa, other);
  }

  [[nodiscard]] const std::vector<std::int8_t>& codes() const { return codes_; }
  [[nodiscard]] const std::vector<float>& scales() const { return scales_; }
  [[nodiscard]] const std::vector<std::int16_t>& sums() const { return sums_; }
  /// Columns that share a scale.
  [[nodiscard]] int scale_columns() const { return block() == 256 ? isa_->scale_columns : block(); }

 private:
  enum class Form { kQuantized32, kQuantized256, kSplit, kFloats };
  [[nodiscard]] static Form form(const Kernels& isa, DType type);
  [[nodiscard]] std::uint16_t* split_at(std::int64_t row, std::int64_t columns);
  [[nodiscard]] int block() const { return form_ == Form::kQuantized32 ? 32 : form_ == Form::kQuantized256 ? 256 : 0; }

  const Kernels* isa_ = nullptr;
  Form form_ = Form::kFloats;
  int tile_ = 1;
  std::int64_t rows_ = 0, columns_ = 0;
  std::vector<std::int8_t> codes_;
  std::vector<float> scales_;
  std::vector<std::int16_t> sums_, minimum_sums_;
  std::vector<float> minimum_scales_;
  std::vector<std::uint16_t> split_;  // of floats, or of offsets
};

}  // namespace llorch::kernel
