#include "device/cuda/cuda_weight.h"

#include <algorithm>

#include "kernel/pack.h"
#include "quant/table.h"

namespace llorch {
namespace {

constexpr std::int64_t kPanelRows = cuda::kPanelRows;
constexpr std::int64_t kCopyBytes = 8 << 20;  // packed at a time

/// Reads, checks and packs panels of a tensor.
class PanelReader {
 public:
  PanelReader(const TensorView& tensor, const Device::Read& read)
      : tensor_(tensor), read_(read), stride_(row_bytes(tensor.type, tensor.columns())) {}

  /// Of rows first..first+count-1, at most a panel's.
  Status read(std::int64_t first, std::int64_t count, std::byte* panel) {
    std::span<const std::byte> bytes =
        tensor_.data.subspan(static_cast<std::size_t>(first) * stride_, static_cast<std::size_t>(count) * stride_);
    if (read_) {
      bytes_.resize(bytes.size());
      LLORCH_OK(read_(bytes, bytes_.data()));
      bytes = bytes_;
    }
    LLORCH_OK(quant::check_finite(tensor_, bytes, static_cast<std::uint64_t>(first)));
    cuda::pack_panel(tensor_.type, static_cast<std::int64_t>(tensor_.columns()), bytes.data(), static_cast<int>(count),
                     panel);
    return {};
  }

 private:
  const TensorView& tensor_;
  const Device::Read& read_;
  std::size_t stride_;
  std::vector<std::byte> bytes_;
};

}  // namespace

Result<std::unique_ptr<CudaWeight>> pack_weight(const std::shared_ptr<CudaContext>& context, const TensorView& tensor,
                                                std::int64_t parts, const Device::Read& read) {
  if (!quant::find_row_ops(tensor.type) || !kernel::can_pack(tensor.type))
    return bad_model("tensor '{}' has type {}, which is no weight type", tensor.name, info(tensor.type).name);
  cuda::Matrix matrix;
  matrix.type = tensor.type, matrix.parts = parts;
  matrix.rows = static_cast<std::int64_t>(tensor.rows()) / parts;
  matrix.columns = static_cast<std::int64_t>(tensor.columns());
  matrix.panel_bytes = cuda::panel_bytes(matrix.type, matrix.columns);
  const std::int64_t of_part = (matrix.rows + kPanelRows - 1) / kPanelRows, panels = of_part * parts;
  LLORCH_TRY(auto memory, CountedMemory::take(context, static_cast<std::size_t>(panels * matrix.panel_bytes)));
  matrix.panels = memory.as<std::byte>();
  if (context->measuring) return std::make_unique<CudaWeight>(matrix, std::move(memory));
  PanelReader reader(tensor, read);
  const std::int64_t together = std::clamp<std::int64_t>(kCopyBytes / matrix.panel_bytes, 1, panels);
  std::vector<std::byte> packed(static_cast<std::size_t>(together * matrix.panel_bytes));
  for (std::int64_t begin = 0; begin < panels; begin += together) {
    const std::int64_t end = std::min(panels, begin + together);
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t first = p % of_part * kPanelRows;
      LLORCH_OK(reader.read(p / of_part * matrix.rows + first, std::min(kPanelRows, matrix.rows - first),
                            packed.data() + (p - begin) * matrix.panel_bytes));
    }
    LLORCH_OK(context->copy_to_device(memory.as<std::byte>() + begin * matrix.panel_bytes, packed.data(),
                                      static_cast<std::size_t>((end - begin) * matrix.panel_bytes)));
    LLORCH_OK(context->synchronize());
  }
  return std::make_unique<CudaWeight>(matrix, std::move(memory));
}

}  // namespace llorch
