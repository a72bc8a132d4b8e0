// Temporary: every format becomes floats, as naive_product.cu reads them.
#include "device/cuda/cuda_weight.h"

#include "cuda/kernel/naive_product.h"
#include "quant/table.h"

namespace llorch {
namespace {

constexpr std::int64_t kPanelRows = cuda::kNaivePanelRows;

/// Reads and checks rows first..first+count-1 of the tensor, and dequantises them into a panel: [column][row].
class PanelReader {
 public:
  PanelReader(const TensorView& tensor, const Device::Read& read)
      : tensor_(tensor),
        read_(read),
        ops_(quant::row_ops(tensor.type)),
        stride_(row_bytes(tensor.type, tensor.columns())),
        row_(tensor.columns()) {}

  Status read(std::int64_t first, std::int64_t count, float* panel) {
    const auto columns = row_.size();
    std::span<const std::byte> bytes =
        tensor_.data.subspan(static_cast<std::size_t>(first) * stride_, static_cast<std::size_t>(count) * stride_);
    if (read_) {
      bytes_.resize(bytes.size());
      LLORCH_OK(read_(bytes, bytes_.data()));
      bytes = bytes_;
    }
    LLORCH_OK(quant::check_finite(tensor_, bytes, static_cast<std::uint64_t>(first)));
    for (std::int64_t r = 0; r < count; ++r) {
      ops_.dequantize(bytes.data() + static_cast<std::size_t>(r) * stride_, columns, row_.data());
      for (std::size_t i = 0; i < columns; ++i) panel[i * kPanelRows + static_cast<std::size_t>(r)] = row_[i];
    }
    return {};
  }

 private:
  const TensorView& tensor_;
  const Device::Read& read_;
  const quant::RowOps& ops_;
  std::size_t stride_;
  std::vector<float> row_;
  std::vector<std::byte> bytes_;
};

}  // namespace

Result<std::unique_ptr<CudaWeight>> pack_weight(const std::shared_ptr<CudaContext>& context, const TensorView& tensor,
                                                std::int64_t parts, const Device::Read& read) {
  if (!quant::find_row_ops(tensor.type))
    return bad_model("tensor '{}' has type {}, which is no weight type", tensor.name, info(tensor.type).name);
  cuda::Matrix matrix;
  matrix.rows = static_cast<std::int64_t>(tensor.rows()) / parts;
  matrix.columns = static_cast<std::int64_t>(tensor.columns()), matrix.parts = parts;
  matrix.panel_bytes = matrix.columns * kPanelRows * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t of_part = (matrix.rows + kPanelRows - 1) / kPanelRows;
  LLORCH_TRY(auto memory, CountedMemory::take(context, static_cast<std::size_t>(of_part * parts * matrix.panel_bytes)));
  matrix.panels = memory.as<std::byte>();
  PanelReader reader(tensor, read);
  std::vector<float> panel(static_cast<std::size_t>(matrix.columns * kPanelRows));
  for (std::int64_t p = 0; p < of_part * parts; ++p) {
    const std::int64_t first = p % of_part * kPanelRows, count = std::min(kPanelRows, matrix.rows - first);
    std::ranges::fill(panel, 0.0f);
    LLORCH_OK(reader.read(p / of_part * matrix.rows + first, count, panel.data()));
    LLORCH_OK(context->stream.copy_to_device(memory.as<std::byte>() + p * matrix.panel_bytes, panel.data(),
                                             static_cast<std::size_t>(matrix.panel_bytes)));
    LLORCH_OK(context->stream.synchronize());
  }
  return std::make_unique<CudaWeight>(matrix, std::move(memory));
}

}  // namespace llorch
