#include "cuda/kernel/product.h"

#include "base/assert.h"
#include "cuda/kernel/panel_formats.h"
#include "cuda/kernel/product_args.h"
#include "cuda/kernel/records.h"

namespace llorch::cuda {

ProductArgs product_args(const Matrix& matrix, std::int64_t part, const void* records, std::int64_t rows,
                         const float* bias, float* out, std::int64_t out_stride) {
  const std::int64_t panels = (matrix.rows + 15) / 16;
  ProductArgs a{};
  a.weights = matrix.panels + part * panels * matrix.panel_bytes;
  a.panel_bytes = matrix.panel_bytes, a.part_bytes = panels * matrix.panel_bytes;
  a.panels = static_cast<int>(panels), a.outputs = static_cast<int>(matrix.rows);
  a.columns = static_cast<int>(matrix.columns);
  a.steps = static_cast<int>((matrix.columns + kStepColumns - 1) / kStepColumns);
  a.records = records;
  a.rows = static_cast<int>(rows), a.tiles = static_cast<int>((rows + kTileRows - 1) / kTileRows);
  a.bias = bias, a.out = out, a.out_stride = out_stride;
  return a;
}

void launch_product(StreamHandle stream, DType type, const ProductArgs& args) {
  switch (type) {
    case DType::kF32: return multiply_type<DType::kF32>(stream, args);
    case DType::kF16: return multiply_type<DType::kF16>(stream, args);
    case DType::kBF16: return multiply_type<DType::kBF16>(stream, args);
    default: break;
  }
#define LLORCH_PANEL(format) \
  if (type == kernel::format.type) return multiply_type<kernel::format.type>(stream, args);
#include "panel_table.inc"
#undef LLORCH_PANEL
  LLORCH_ASSERT(false, "a weight of this type has no product");
}

bool share_rows(DType a, DType b) { return record_form(a) == record_form(b); }

void multiply(StreamHandle stream, const Matrix& matrix, std::int64_t part, const void* room, std::int64_t rows,
              const float* bias, float* out, std::int64_t out_stride) {
  launch_product(stream, matrix.type, product_args(matrix, part, room, rows, bias, out, out_stride));
}

}  // namespace llorch::cuda
