// Waits for a step on a thread of its own, so that a device that never answers costs a time limit and not the engine's
// thread: the driver's own wait has none.
#pragma once

#include <chrono>
#include <memory>

#include "cuda/runtime.h"

namespace llorch {

class CudaWatch {
 public:
  /// Errors: kCudaError.
  [[nodiscard]] static Result<CudaWatch> make(int device_index);
  CudaWatch() = default;
  CudaWatch(CudaWatch&&) noexcept = default;
  CudaWatch& operator=(CudaWatch&&) noexcept = default;
  /// A thread that still waits for the device is left alone.
  ~CudaWatch();

  /// Waits for all that was enqueued in the stream. Errors: those of the device; kCudaError when it takes longer than
  /// `limit`, and for every wait after that.
  [[nodiscard]] Status wait(cuda::Stream& stream, std::chrono::milliseconds limit);
  /// Whether a wait took longer than its limit.
  [[nodiscard]] bool gave_up() const;

 private:
  struct Shared;  // with the thread, which may outlive this
  std::shared_ptr<Shared> shared_;
};

}  // namespace llorch
