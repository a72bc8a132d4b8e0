// What the CPU backend and the reference share: memory is the host's own, copies are copies, rows of embeddings are
// read from the file as they are needed.
#pragma once

#include <vector>

#include "nn/backend.h"
#include "quant/table.h"

namespace llorch {

class HostBackend : public Backend {
 public:
  Result<std::unique_ptr<Weight>> table(const TensorView& tensor, Read read) override;
  Result<DeviceBuffer> allocate(std::size_t floats) override;
  void upload(std::span<const float> from, DeviceSpan to) override;
  void download(DeviceSpan from, std::span<float> to) override;
  void copy(DeviceSpan from, DeviceSpan to) override;
  Status embed(const Weight& table, std::span<const std::int32_t> ids, DeviceSpan out) override;
  void gather(DeviceSpan x, std::int64_t width, std::span<const std::int32_t> indices, DeviceSpan out) override;

 protected:
  static float* at(DeviceSpan span) { return DeviceAccess::data(span); }
};

/// A matrix that stays in its file's layout.
class RawWeight final : public Weight {
 public:
  /// `owned`: the tensor's bytes, where they are not read one row at a time.
  RawWeight(const TensorView& tensor, Backend::Read read, AlignedBuffer owned = {})
      : Weight(static_cast<std::int64_t>(tensor.rows()), static_cast<std::int64_t>(tensor.columns()),
               static_cast<std::int64_t>(tensor.data.size())),
        tensor_(tensor),
        ops_(quant::row_ops(tensor.type)),
        stride_(row_bytes(tensor.type, tensor.columns())),
        read_(std::move(read)),
        owned_(std::move(owned)) {
    if (owned_.size() > 0) tensor_.data = {owned_.data(), tensor_.data.size()};
  }

  Status row(std::int64_t index, float* out) const {
    const std::byte* from = bytes(index);
    if (read_) {
      thread_local std::vector<std::byte> row;
      row.resize(stride_);
      LLORCH_OK(read_({from, stride_}, row.data()));
      from = row.data();
    }
    ops_.dequantize(from, tensor_.columns(), out);
    return {};
  }
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
  Backend::Read read_;
  AlignedBuffer owned_;
};

}  // namespace llorch
