// Memory that belongs to a backend. Host code holds it, passes it on, and cannot look into it: there is no conversion
// to a pointer or a host span, so that a device address can never be read as if it were the host's (W-43). Backends
// reach inside through DeviceAccess.
#pragma once

#include <cstddef>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/assert.h"

namespace llorch {

/// A run of floats in a backend's memory. Does not own.
class DeviceSpan {
 public:
  DeviceSpan() = default;
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] DeviceSpan part(std::size_t offset, std::size_t count) const {
    LLORCH_ASSERT(offset <= size_ && count <= size_ - offset, "part outside the device span");
    return DeviceSpan(data_ + offset, count);
  }

 private:
  friend struct DeviceAccess;
  DeviceSpan(float* data, std::size_t size) : data_(data), size_(size) {}
  float* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Owns floats in a backend's memory.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  [[nodiscard]] DeviceSpan span() const { return span_; }
  [[nodiscard]] std::size_t size() const { return span_.size(); }
  [[nodiscard]] bool empty() const { return span_.empty(); }

 private:
  friend struct DeviceAccess;
  AlignedBuffer memory_;
  DeviceSpan span_;
};

/// For backends only.
struct DeviceAccess {
  static float* data(DeviceSpan span) { return span.data_; }
  static DeviceBuffer wrap(AlignedBuffer memory, std::size_t floats) {
    DeviceBuffer buffer;
    buffer.span_ = DeviceSpan(reinterpret_cast<float*>(memory.data()), floats);
    buffer.memory_ = std::move(memory);
    return buffer;
  }
};

}  // namespace llorch
