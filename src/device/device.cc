#include "device/device.h"

#include "quant/table.h"

namespace llorch {

Result<FloatBuffer> Device::vector(const TensorView& tensor, const Read& read) {
  const quant::RowOps* ops = quant::find_row_ops(tensor.type);
  if (!ops) return bad_model("tensor '{}' has type {}, which is no weight type", tensor.name, info(tensor.type).name);
  std::vector<std::byte> bytes(read ? tensor.data.size() : 0);
  if (read) LLORCH_OK(read(tensor.data, bytes.data()));
  const std::span<const std::byte> data = read ? bytes : tensor.data;
  LLORCH_OK(quant::check_finite(tensor, data, 0));
  std::vector<float> values(tensor.values());
  const std::uint64_t stride = row_bytes(tensor.type, tensor.columns());
  for (std::uint64_t r = 0; r < tensor.rows(); ++r)
    ops->dequantize(data.data() + r * stride, tensor.columns(), values.data() + r * tensor.columns());
  LLORCH_TRY(FloatBuffer buffer,
             allocate(static_cast<std::int64_t>(tensor.rows()), static_cast<std::int64_t>(tensor.columns())));
  upload(values, buffer.span());
  return buffer;
}

}  // namespace llorch
