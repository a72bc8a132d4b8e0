// A device, and what tests put on it.
#pragma once

#include <list>
#include <memory>
#include <span>
#include <vector>

#include "base/random.h"
#include "device/device.h"
#include "quant/table.h"

namespace llorch {

/// In [-size, size); `which`: other values.
inline std::vector<float> random_values(std::int64_t count, std::uint64_t which, double size = 1) {
  std::vector<float> out(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>(size * (2 * uniform(17, which, static_cast<std::uint64_t>(i)) - 1));
  return out;
}

class On {
 public:
  explicit On(std::unique_ptr<Device> device) : device_(std::move(device)) {}
  [[nodiscard]] Device& device() { return *device_; }
  FloatSpan put(std::int64_t rows, std::int64_t width, std::span<const float> from) {
    const FloatSpan to = room(rows, width);
    device_->upload(from, to);
    return to;
  }
  FloatSpan put(std::int64_t rows, std::int64_t width, std::uint64_t which, double size = 1) {
    return put(rows, width, random_values(rows * width, which, size));
  }
  /// Nobody wrote it yet.
  FloatSpan room(std::int64_t rows, std::int64_t width) {
    buffers_.push_back(device_->allocate(rows, width).value());
    return buffers_.back().span();
  }
  /// Random values.
  TensorView tensor(std::int64_t rows, std::int64_t columns, DType type, std::uint64_t which) {
    const std::vector<float> x = random_values(rows * columns, which);
    auto& bytes = bytes_.emplace_back(row_bytes(type, x.size()));
    quant::row_ops(type).quantize(x.data(), x.size(), bytes.data());
    TensorView t;
    t.name = "w", t.type = type, t.n_dims = 2, t.data = bytes;
    t.dims = {static_cast<std::uint64_t>(columns), static_cast<std::uint64_t>(rows), 1, 1};
    return t;
  }
  const Weight* matrix(std::int64_t rows, std::int64_t columns, std::uint64_t which, DType type = DType::kF32,
                       std::int64_t parts = 1) {
    weights_.push_back(device_->matrix(tensor(rows * parts, columns, type, which), parts, {}).value());
    return weights_.back().get();
  }
  const Weight& table(std::int64_t rows, std::int64_t columns, std::uint64_t which, DType type = DType::kF32) {
    weights_.push_back(device_->table(tensor(rows, columns, type, which), {}).value());
    return *weights_.back();
  }
  [[nodiscard]] std::vector<float> get(FloatSpan from) {
    std::vector<float> out(from.size());
    device_->download(from, out);
    return out;
  }

 private:
  std::unique_ptr<Device> device_;
  std::list<std::vector<std::byte>> bytes_;
  std::vector<FloatBuffer> buffers_;
  std::vector<std::unique_ptr<Weight>> weights_;
};

}  // namespace llorch
