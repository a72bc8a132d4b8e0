#include "nn/host_backend.h"

#include <cstring>

namespace llorch {

Result<std::unique_ptr<Weight>> HostBackend::table(const TensorView& tensor, Read read) {
  if (!quant::find_row_ops(tensor.type))
    return bad_model("tensor '{}' has type {}, which is no weight type", tensor.name, info(tensor.type).name);
  return std::make_unique<RawWeight>(tensor, std::move(read));
}

Result<DeviceBuffer> HostBackend::allocate(std::size_t floats) {
  LLORCH_TRY(AlignedBuffer memory, AlignedBuffer::make(floats * sizeof(float)));
  return DeviceAccess::wrap(std::move(memory), floats);
}

void HostBackend::upload(std::span<const float> from, DeviceSpan to) {
  LLORCH_ASSERT(from.size() <= to.size(), "upload beyond the buffer");
  if (!from.empty()) std::memcpy(at(to), from.data(), from.size_bytes());
}

void HostBackend::download(DeviceSpan from, std::span<float> to) {
  LLORCH_ASSERT(to.size() <= from.size(), "download beyond the buffer");
  if (!to.empty()) std::memcpy(to.data(), at(from), to.size_bytes());
}

void HostBackend::copy(DeviceSpan from, DeviceSpan to) {
  LLORCH_ASSERT(from.size() <= to.size(), "copy beyond the buffer");
  if (!from.empty()) std::memcpy(at(to), at(from), from.size() * sizeof(float));
}

Status HostBackend::embed(const Weight& table, std::span<const std::int32_t> ids, DeviceSpan out) {
  const auto& raw = static_cast<const RawWeight&>(table);
  LLORCH_ASSERT(out.size() >= ids.size() * static_cast<std::size_t>(raw.columns()), "embedding output too small");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    LLORCH_ASSERT(ids[i] >= 0 && ids[i] < raw.rows(), "token id outside the vocabulary");
    LLORCH_OK(raw.row(ids[i], at(out) + i * static_cast<std::size_t>(raw.columns())));
  }
  return {};
}

void HostBackend::gather(DeviceSpan x, std::int64_t width, std::span<const std::int32_t> indices, DeviceSpan out) {
  const auto n = static_cast<std::size_t>(width);
  for (std::size_t i = 0; i < indices.size(); ++i)
    std::memcpy(at(out) + i * n, at(x) + static_cast<std::size_t>(indices[i]) * n, n * sizeof(float));
}

}  // namespace llorch
