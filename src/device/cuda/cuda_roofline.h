// What a CUDA device can do at most, measured with kernels of our own (cuda/kernel/roofline.h).
#pragma once

#include "base/result.h"
#include "device/roofline.h"

namespace llorch {

/// Each figure is the best of several tries. Takes a GiB of device memory, or a quarter of what is free, and less than
/// a second. Roofline::threads: multiprocessors; tiles: none. Errors: kDeviceNotFound, kVramOom, kCudaError.
[[nodiscard]] Result<Roofline> measure_cuda_roofline(int index);

}  // namespace llorch
