#include "kernel/activations.h"

namespace llorch::kernel {

Activations::Form Activations::form(const Kernels& isa, DType type) {
  if (info(type).block > 1) return info(type).block == 256 ? Form::kQuantized256 : Form::kQuantized32;
  return isa.split_row && type != DType::kF32 ? Form::kSplit : Form::kFloats;
}

void Activations::resize(const Kernels& isa, DType type, std::int64_t rows, std::int64_t columns) {
  isa_ = &isa, form_ = form(isa, type), rows_ = rows, columns_ = columns;
  const auto grow = [](auto& v, std::int64_t n) {
    if (v.size() < static_cast<std::size_t>(n)) v.resize(static_cast<std::size_t>(n));
  };
  if (const int block = this->block(); block > 0) {
    tile_ = rows >= isa.tiles_from && columns <= kTileColumnsMax ? kTileRows : 1;
    const std::int64_t total = (rows + tile_ - 1) / tile_ * tile_ * columns;
    grow(codes_, total), grow(scales_, total / scale_columns()), grow(sums_, total / 16);
    if (isa.minimum_sums && block == 256)
      grow(minimum_sums_, total / 256 * kMinimumSums), grow(minimum_scales_, total / 256);
    if (isa.offsets) grow(split_, split_values(rows, columns / 32));
  } else if (form_ == Form::kSplit) {
    grow(split_, split_values(rows, columns));
  }
}

std::uint16_t* Activations::split_at(std::int64_t row, std::int64_t columns) {
  return split_.data() + split_values(row / kTileRows * kTileRows, columns) + row % kTileRows * 32;
}

void Activations::convert_row(std::int64_t row, const float* x) {
  if (const int block = this->block(); block > 0) {
    const std::int64_t first = row / tile_ * tile_ * columns_, within = row % tile_;
    const bool minimums = isa_->minimum_sums && block == 256;
    isa_->quantize_row(
        x, columns_, block,
        {codes_.data() + first + within * tile_columns(block), scales_.data() + first / scale_columns() + within,
         sums_.data() + first / 16 + within * 2, minimums ? minimum_sums_.data() + first / 256 * kMinimumSums : nullptr,
         minimums ? minimum_scales_.data() + first / 256 : nullptr,
         isa_->offsets ? split_at(row, columns_ / 32) : nullptr, tile_});
  } else if (form_ == Form::kSplit) {
    isa_->split_row(x, columns_, split_at(row, columns_));
  }
}

void Activations::fill(LinearArgs& args, const float* x, std::int64_t first, std::int64_t count) const {
  args.rows = count, args.k = columns_;
  args.x = x, args.x_stride = columns_;
  args.split = split_.data();
  if (const int block = this->block(); block > 0) {
    const std::int64_t at = first * columns_;
    const bool minimums = isa_->minimum_sums && block == 256;
    args.quantized = {codes_.data() + at,
                      scales_.data() + at / scale_columns(),
                      sums_.data() + at / 16,
                      minimums ? minimum_sums_.data() + at / 256 * kMinimumSums : nullptr,
                      minimums ? minimum_scales_.data() + at / 256 : nullptr,
                      isa_->offsets ? split_.data() + split_values(first, columns_ / 32) : nullptr,
                      columns_,
                      tile_};
  } else if (form_ == Form::kSplit) {
    args.split += split_values(first, columns_);
  }
}

}  // namespace llorch::kernel
