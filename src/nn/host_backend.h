// What the CPU backend and the reference share: memory is the host's own, copies are copies, embeddings come straight
// from the file.
#pragma once

#include "nn/backend.h"
#include "quant/table.h"

namespace llorch {

class HostBackend : public Backend {
 public:
  Result<std::unique_ptr<Weight>> table(const TensorView& tensor) override;
  Result<DeviceBuffer> allocate(std::size_t floats) override;
  void upload(std::span<const float> from, DeviceSpan to) override;
  void download(DeviceSpan from, std::span<float> to) override;
  void copy(DeviceSpan from, DeviceSpan to) override;
  void embed(const Weight& table, std::span<const std::int32_t> ids, DeviceSpan out) override;
  void gather(DeviceSpan x, std::int64_t width, std::span<const std::int32_t> indices, DeviceSpan out) override;

 protected:
  static float* at(DeviceSpan span) { return DeviceAccess::data(span); }
};

/// A matrix that stays in its file's layout.
class RawWeight final : public Weight {
 public:
  explicit RawWeight(const TensorView& tensor)
      : Weight(static_cast<std::int64_t>(tensor.rows()), static_cast<std::int64_t>(tensor.columns()),
               static_cast<std::int64_t>(tensor.data.size())),
        tensor_(tensor),
        ops_(quant::row_ops(tensor.type)),
        stride_(row_bytes(tensor.type, tensor.columns())) {}

  void row(std::int64_t index, float* out) const { ops_.dequantize(bytes(index), tensor_.columns(), out); }
  [[nodiscard]] double dot(std::int64_t index, const float* x) const {
    return ops_.dot(bytes(index), x, tensor_.columns());
  }

 private:
  [[nodiscard]] const std::byte* bytes(std::int64_t index) const {
    return tensor_.data.data() + static_cast<std::uint64_t>(index) * stride_;
  }
  TensorView tensor_;
  const quant::RowOps& ops_;
  std::uint64_t stride_;
};

}  // namespace llorch
