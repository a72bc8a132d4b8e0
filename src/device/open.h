// The device layer: what a worker opens and verifies before it loads a model (W-40, W-41). Never aborts; a bad index is
// an error.
#pragma once

#include <memory>
#include <string>

#include "device/cpu/product_provider.h"
#include "device/device.h"

namespace llorch {

/// Status integers of the device layer, stable across versions.
enum class DeviceStatus : int {
  kOk = 0,
  kDeviceNotFound = 1,
  kOutOfMemory = 2,
  kInvalidDevice = 3,
  kModelLoadFailed = 4,
  kInferenceFailed = 5,
  kResidencyFailed = 6,
  kKernelLaunchFailed = 7,
  kUnknown = 99,
};

/// Text for a status integer; the text of 99 for a number that has none.
[[nodiscard]] const char* llorch_device_error_message(int status);
[[nodiscard]] DeviceStatus device_status(ErrorCode code);

/// A device that was opened.
struct OpenDevice {
  std::string id;    // "cpu", "cuda:0"
  std::string name;  // of the processor, and the ISA in use
  std::unique_ptr<Device> device;
};

[[nodiscard]] Result<OpenDevice> init_cpu_device(std::string_view isa = {}, int threads = 1);
/// What opens CUDA devices: open_cuda_device() of device/cuda/cuda_device.h, in programs that link it. `threads`: of the
/// host.
using CudaOpener = Result<OpenDevice> (*)(int index, int threads);
/// Errors: kDeviceNotFound, also where the opener is null: a program without CUDA; kCudaError.
[[nodiscard]] Result<OpenDevice> init_cuda_device(int index, CudaOpener open = nullptr, int threads = 1);
/// The CPU with a library's matrix products (cblas_products() of device/accelerate/cblas.h, where there is one).
/// Errors: kDeviceNotFound, also where they are null: a build without such a library.
[[nodiscard]] Result<OpenDevice> init_accelerate_device(const ProductProvider* products, std::string_view isa = {},
                                                        int threads = 1);

/// A small product whose result is known, computed on the device. Errors: kInferenceFailed when it is wrong.
[[nodiscard]] Status verify_device(Device& device);

}  // namespace llorch
