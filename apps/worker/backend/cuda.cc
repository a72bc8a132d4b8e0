// Two programs: for a GPU, and for the emulated device.
#include "device/cuda/cuda_device.h"
#include "device/cuda/cuda_roofline.h"
#include "worker/backend.h"

namespace llorch::worker {

namespace {

DeviceUse use(const Device& device) {
  const auto* cuda = dynamic_cast<const CudaDevice*>(&device);
  if (!cuda) return {};
  return {static_cast<std::int64_t>(cuda->memory_bytes()), cuda->waited()};
}

}  // namespace

const Backend& backend() {
#ifdef LLORCH_CUDA_EMULATED
  static const Backend own{"cuda-emulated",
                           "For tests only: CUDA kernels on an emulated device, much slower than the CPU's own.",
                           nullptr,
                           &open_cuda_device,
                           &use,
                           &measure_cuda_roofline};
#else
  static const Backend own{"cuda",  "Private LLM inference: one model, one process, on an NVIDIA GPU.",
                           nullptr, &open_cuda_device,
                           &use,    &measure_cuda_roofline};
#endif
  return own;
}

}  // namespace llorch::worker
