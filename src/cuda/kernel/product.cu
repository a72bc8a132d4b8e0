#include "cuda/kernel/product.h"

#include "base/assert.h"
#include "cuda/kernel/panel_formats.h"
#include "cuda/kernel/product_args.h"
#include "cuda/kernel/records.h"

namespace llorch::cuda {

ProductArgs product_args(const Matrix& like, const void* records, std::int64_t rows) {
  ProductArgs a{};
  a.panel_bytes = like.panel_bytes;
  a.steps = static_cast<int>((like.columns + kStepColumns - 1) / kStepColumns);
  a.records = records;
  a.rows = static_cast<int>(rows), a.tiles = static_cast<int>((rows + kTileRows - 1) / kTileRows);
  return a;
}

void add_matrix(ProductArgs& args, const Product& product) {
  const std::int64_t panels = (product.matrix->rows + kPanelRows - 1) / kPanelRows;
  args.matrices[args.matrix_count++] = {product.matrix->panels + product.part * panels * args.panel_bytes,
                                        product.bias,
                                        product.out,
                                        product.out_stride,
                                        static_cast<int>(product.matrix->rows),
                                        args.panels};
  args.panels += static_cast<int>(panels);
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

void multiply(StreamHandle stream, std::span<const Product> products, const void* room, std::int64_t rows) {
  while (!products.empty()) {
    const Matrix& first = *products.front().matrix;
    ProductArgs args = product_args(first, room, rows);
    std::size_t count = 0;
    for (; count < products.size() && count < kMatricesMax && products[count].matrix->type == first.type; ++count)
      add_matrix(args, products[count]);
    launch_product(stream, first.type, args);
    products = products.subspan(count);
  }
}

}  // namespace llorch::cuda
