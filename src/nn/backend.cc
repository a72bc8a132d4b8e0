#include "nn/backend.h"

#include "quant/table.h"

namespace llorch {

Result<DeviceBuffer> Backend::vector(const TensorView& tensor) {
  const quant::RowOps* ops = quant::find_row_ops(tensor.type);
  if (!ops) return bad_model("tensor '{}' has type {}, which is no weight type", tensor.name, info(tensor.type).name);
  std::vector<float> values(tensor.values());
  const std::uint64_t stride = row_bytes(tensor.type, tensor.columns());
  for (std::uint64_t r = 0; r < tensor.rows(); ++r)
    ops->dequantize(tensor.data.data() + r * stride, tensor.columns(), values.data() + r * tensor.columns());
  LLORCH_TRY(DeviceBuffer buffer, allocate(values.size()));
  upload(values, buffer.span());
  return buffer;
}

}  // namespace llorch
