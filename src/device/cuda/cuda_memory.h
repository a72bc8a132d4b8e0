// What the parts of a CUDA device share: its stream, the count of its bytes, and the first thing that went wrong where
// no Status can be returned.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "cuda/runtime.h"
#include "device/host_device.h"

namespace llorch {

struct CudaContext {
  int index = 0;
  cuda::Stream stream;
  std::atomic<std::size_t> bytes{0};  // of device memory
  FirstError error;                   // told by the device's finish()
};

/// Device memory, counted as long as it is there.
class CountedMemory {
 public:
  CountedMemory() = default;
  [[nodiscard]] static Result<CountedMemory> take(std::shared_ptr<CudaContext> context, std::size_t bytes) {
    LLORCH_OK(cuda::select_device(context->index));
    CountedMemory out;
    LLORCH_TRY(out.memory_, cuda::DeviceMemory::allocate(bytes));
    out.context_ = std::move(context);
    out.context_->bytes += bytes;
    return out;
  }
  CountedMemory(CountedMemory&& other) noexcept { swap(other); }
  CountedMemory& operator=(CountedMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~CountedMemory() {
    if (context_) context_->bytes -= memory_.bytes();
  }
  template<class T>
  [[nodiscard]] T* as() const {
    return memory_.as<T>();
  }
  [[nodiscard]] std::size_t bytes() const { return memory_.bytes(); }

 private:
  void swap(CountedMemory& other) {
    std::swap(context_, other.context_);
    std::swap(memory_, other.memory_);
  }
  std::shared_ptr<CudaContext> context_;
  cuda::DeviceMemory memory_;
};

/// Room that grows to the largest step. What it holds is lost as it grows.
class CudaRoom {
 public:
  /// Null where there is no memory: the context has the error.
  template<class T>
  [[nodiscard]] T* need(const std::shared_ptr<CudaContext>& context, std::size_t count) {
    const std::size_t bytes = std::max<std::size_t>(count * sizeof(T), 1);
    if (memory_.bytes() < bytes) {
      memory_ = CountedMemory();
      auto taken = CountedMemory::take(context, bytes);
      if (!taken) {
        context->error.add(std::unexpected(std::move(taken).error()));
        return nullptr;
      }
      memory_ = std::move(*taken);
    }
    return memory_.as<T>();
  }

 private:
  CountedMemory memory_;
};

/// Host memory that copies use while the host goes on; grows likewise.
class PinnedRoom {
 public:
  [[nodiscard]] std::byte* need(CudaContext& context, std::size_t bytes) {
    if (memory_.bytes() < bytes) {
      memory_ = cuda::PinnedMemory();
      auto taken = cuda::PinnedMemory::allocate(bytes);
      if (!taken) {
        context.error.add(std::unexpected(std::move(taken).error()));
        return nullptr;
      }
      memory_ = std::move(*taken);
    }
    return static_cast<std::byte*>(memory_.data());
  }
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(memory_.data()); }

 private:
  cuda::PinnedMemory memory_;
};

}  // namespace llorch
