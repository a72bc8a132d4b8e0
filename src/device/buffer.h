// Memory of a device. Host code holds it, passes it on, and cannot look into it: there is no conversion to a pointer or
// a host span, so that a device address is never read as if it were the host's (W-43). A span knows its element type,
// its shape and its device; a device looks inside with a key that only devices can make, and only into its own memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/assert.h"

namespace llorch {

class Device;

/// What opens the memory of one device; made by that device alone.
class DeviceKey {
 private:
  friend class HostDevice;
  friend class CudaDevice;
  template<class T>
  friend class DeviceSpan;
  template<class T>
  friend class DeviceBuffer;
  explicit DeviceKey(const Device& device) : device_(&device) {}
  const Device* device_;
};

/// A matrix (rows, width) of T in a device's memory, row behind row. Does not own.
template<class T>
class DeviceSpan {
 public:
  DeviceSpan() = default;
  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] std::int64_t width() const { return width_; }
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(rows_ * width_); }
  [[nodiscard]] bool empty() const { return size() == 0; }
  /// `count` rows from `first` on.
  [[nodiscard]] DeviceSpan part(std::int64_t first, std::int64_t count) const {
    LLORCH_ASSERT(first >= 0 && count >= 0 && first + count <= rows_, "rows outside the device span");
    return {device_, data_ + first * width_, count, width_};
  }
  /// The same memory as (rows, width); may be smaller.
  [[nodiscard]] DeviceSpan as(std::int64_t rows, std::int64_t width) const {
    LLORCH_ASSERT(rows >= 0 && width >= 0 && rows * width <= rows_ * width_, "a shape beyond the device span");
    return {device_, data_, rows, width};
  }

  [[nodiscard]] T* address(const DeviceKey& key) const {
    LLORCH_ASSERT(empty() || key.device_ == device_, "memory of another device");
    return data_;
  }

 private:
  template<class U>
  friend class DeviceBuffer;
  DeviceSpan(const Device* device, T* data, std::int64_t rows, std::int64_t width)
      : device_(device), data_(data), rows_(rows), width_(width) {}
  const Device* device_ = nullptr;
  T* data_ = nullptr;
  std::int64_t rows_ = 0, width_ = 0;
};

/// Owns a matrix in a device's memory.
template<class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  /// For devices: `memory` keeps `data` alive.
  DeviceBuffer(const DeviceKey& key, std::shared_ptr<void> memory, T* data, std::int64_t rows, std::int64_t width)
      : memory_(std::move(memory)), span_(key.device_, data, rows, width) {}
  DeviceBuffer(DeviceBuffer&&) noexcept = default;
  DeviceBuffer& operator=(DeviceBuffer&&) noexcept = default;
  [[nodiscard]] DeviceSpan<T> span() const { return span_; }
  [[nodiscard]] std::size_t size() const { return span_.size(); }
  [[nodiscard]] bool empty() const { return span_.empty(); }

 private:
  std::shared_ptr<void> memory_;
  DeviceSpan<T> span_;
};

using FloatSpan = DeviceSpan<float>;
using FloatBuffer = DeviceBuffer<float>;

}  // namespace llorch
