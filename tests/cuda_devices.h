// CUDA devices for tests: the emulated one, whose order of threads can be chosen, or a GPU.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string_view>

#include "device/cuda/cuda_device.h"
#ifdef LLORCH_CUDA_EMULATED
#include "cuda/host/device.h"
#include "cuda/host/order.h"
#endif

#define LLORCH_NEED_CUDA() \
  if (const auto count = cuda::device_count(); !count) GTEST_SKIP() << "not run: " << count.error().message

namespace llorch {

inline std::unique_ptr<CudaDevice> cuda_test_device() { return CudaDevice::make(0, 2).value(); }

/// As LLORCH_CUDA_ORDER; a GPU has its own.
inline void set_cuda_order([[maybe_unused]] std::string_view order) {
#ifdef LLORCH_CUDA_EMULATED
  cuda::host::Device::instance().set_order(cuda::host::Order::parse(order));
#endif
}

}  // namespace llorch
