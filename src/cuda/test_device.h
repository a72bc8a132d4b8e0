// What tests of kernels share: vectors that go to the device and come back.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "cuda/runtime.h"

namespace llorch::cuda {

inline void check(const Status& status) { ASSERT_TRUE(status) << status.error().message; }

template<class T>
DeviceMemory to_device(Stream& stream, const std::vector<T>& values) {
  DeviceMemory memory = DeviceMemory::allocate(values.size() * sizeof(T)).value();
  check(stream.copy_to_device(memory.data(), values.data(), memory.bytes()));
  check(stream.synchronize());
  return memory;
}

template<class T>
DeviceMemory on_device(std::size_t count) {
  return DeviceMemory::allocate(count * sizeof(T)).value();
}

/// After all that was enqueued; empty when something failed.
template<class T>
Result<std::vector<T>> from_device(Stream& stream, const DeviceMemory& memory) {
  std::vector<T> out(memory.bytes() / sizeof(T));
  LLORCH_OK(stream.copy_to_host(out.data(), memory.data(), memory.bytes()));
  LLORCH_OK(stream.synchronize());
  return out;
}

/// In [-1, 1).
inline std::vector<float> random_floats(std::size_t count, std::uint64_t seed) {
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(uniform(seed, 0, i) * 2 - 1);
  return out;
}

/// Why tests that need a device do not run; empty where there is one.
inline std::string no_device() {
  const auto count = device_count();
  return count ? "" : "not run: " + count.error().message;
}

}  // namespace llorch::cuda
