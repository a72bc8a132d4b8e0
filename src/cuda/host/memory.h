// Memory of the emulated device, and pinned memory: host memory between guards, poisoned when allocated (poison.h),
// with an upper bound on what the device has. Under ASan freed memory cannot be touched. Not thread-safe: the device's
// lock (device.h) covers it; kernels only read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace llorch::cuda::host {

enum class MemoryKind { kDevice, kPinned };

class Memory {
 public:
  explicit Memory(std::size_t device_bytes_max) : device_bytes_max_(device_bytes_max) {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  /// At multiples of 256 bytes; null when the device has not so much left.
  void* allocate(std::size_t bytes, MemoryKind kind);
  /// Errors: not a pointer that allocate() gave; a guard that was written.
  std::optional<std::string> release(void* at);

  /// Whether all these bytes are in one allocation, of this kind when one is given.
  [[nodiscard]] bool contains(const void* at, std::size_t bytes, std::optional<MemoryKind> kind = {}) const;
  /// The first allocation whose guards were written, in words.
  [[nodiscard]] std::optional<std::string> overrun() const;

  [[nodiscard]] std::size_t device_bytes() const { return device_bytes_; }
  [[nodiscard]] std::size_t device_bytes_max() const { return device_bytes_max_; }
  void set_device_bytes_max(std::size_t bytes) { device_bytes_max_ = bytes; }
  /// How often allocate() gave memory.
  [[nodiscard]] std::uint64_t allocated() const { return allocated_; }
  /// Changes with each allocate() and release().
  [[nodiscard]] std::uint64_t generation() const { return generation_; }

  struct Range {
    const std::byte* begin = nullptr;
    std::size_t bytes = 0;
    [[nodiscard]] bool holds(const void* at, std::size_t count) const {
      const auto* byte = static_cast<const std::byte*>(at);
      return byte >= begin && byte <= begin + bytes && count <= static_cast<std::size_t>(begin + bytes - byte);
    }
  };
  /// The allocation that this address is in.
  [[nodiscard]] std::optional<Range> range_of(const void* at) const;

 private:
  struct Allocation {
    std::size_t bytes;
    MemoryKind kind;
  };
  std::map<const std::byte*, Allocation> allocations_;
  std::size_t device_bytes_ = 0, device_bytes_max_;
  std::uint64_t generation_ = 1, allocated_ = 0;
};

/// That of the one device.
Memory& memory();

}  // namespace llorch::cuda::host
