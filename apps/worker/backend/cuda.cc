// Two programs: for a GPU, and for the emulated device.
#include "device/cuda/cuda_device.h"
#include "worker/backend.h"

namespace llorch::worker {

const Backend& backend() {
#ifdef LLORCH_CUDA_EMULATED
  static const Backend own{"cuda-emulated",
                           "For tests only: CUDA kernels on an emulated device, much slower than the CPU's own.", nullptr,
                           &open_cuda_device};
#else
  static const Backend own{"cuda", "Private LLM inference: one model, one process, on an NVIDIA GPU.", nullptr,
                           &open_cuda_device};
#endif
  return own;
}

}  // namespace llorch::worker
