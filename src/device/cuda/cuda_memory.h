// What the parts of a CUDA device share: its stream, what it holds of the device's memory, and the first thing that
// went wrong where no Status can be returned.
#pragma once

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "cuda/runtime.h"
#include "device/cuda/cuda_watch.h"
#include "device/host_device.h"

namespace llorch {

struct CudaContext {
  int index = 0;
  /// Counts what would be taken: there is no stream, no memory behind an address, and nothing runs.
  bool measuring = false;
  bool lost = false;  // it does not answer any more: nothing waits for it, its memory is not freed
  cuda::Stream stream;
  CudaWatch watch;
  std::chrono::milliseconds limit{0};
  FirstError error;                   // told by the device's finish()
  std::atomic<std::size_t> bytes{0};  // of device memory
  /// Grows when memory is freed, pinned memory too: an address that was kept before may be nobody's.
  std::atomic<std::uint64_t> frees{0};

  // Of the stream; nothing while it measures.
  [[nodiscard]] Status copy_to_device(void* to, const void* from, std::size_t size) {
    return measuring || size == 0 ? Status{} : stream.copy_to_device(to, from, size);
  }
  [[nodiscard]] Status copy_to_host(void* to, const void* from, std::size_t size) {
    return measuring || size == 0 ? Status{} : stream.copy_to_host(to, from, size);
  }
  [[nodiscard]] Status fill(void* at, unsigned char value, std::size_t size) {
    return measuring || size == 0 ? Status{} : stream.fill(at, value, size);
  }
  /// Without a limit: while a model is loaded.
  [[nodiscard]] Status synchronize() { return measuring ? Status{} : stream.synchronize(); }
  /// kCudaError where the device is lost: whoever enqueues looks first, since a full queue would wait without a limit.
  [[nodiscard]] Status answers() const;
  /// For no longer than `limit`: the device is `lost` then. Errors: kCudaError, at once where it is lost.
  [[nodiscard]] Status wait();

  /// Of device memory that was taken, and is freed.
  void hold(const void* at, std::size_t size);
  void release(const void* at, std::size_t size);
  /// Whether all that it holds is where it should be.
  [[nodiscard]] Status check_resident();

 private:
  std::mutex mutex_;
  std::map<const void*, std::size_t> held_;
};

/// Memory of one place. That of the device is counted as long as it is there.
template<cuda::MemoryPlace kPlace>
class HeldMemory {
 public:
  HeldMemory() = default;
  /// Errors: kVramOom, which says how much is free and what helps; kInsufficientMemory; kCudaError.
  [[nodiscard]] static Result<HeldMemory> take(std::shared_ptr<CudaContext> context, std::size_t bytes);
  HeldMemory(HeldMemory&& other) noexcept { swap(other); }
  HeldMemory& operator=(HeldMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~HeldMemory();
  /// Where nothing lies while the context measures.
  template<class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(at_);
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  void swap(HeldMemory& other) {
    std::swap(context_, other.context_);
    std::swap(memory_, other.memory_);
    std::swap(at_, other.at_);
    std::swap(bytes_, other.bytes_);
  }
  std::shared_ptr<CudaContext> context_;
  cuda::PlacedMemory<kPlace> memory_;
  void* at_ = nullptr;
  std::size_t bytes_ = 0;
};
using CountedMemory = HeldMemory<cuda::MemoryPlace::kDevice>;
/// Of the host, which copies use while the host goes on.
using PinnedBytes = HeldMemory<cuda::MemoryPlace::kPinned>;
extern template class HeldMemory<cuda::MemoryPlace::kDevice>;
extern template class HeldMemory<cuda::MemoryPlace::kPinned>;

/// Room that grows to the largest step. What it holds is lost as it grows.
template<class Memory>
class GrowingRoom {
 public:
  /// Null where there is no memory: the context has the error.
  template<class T>
  [[nodiscard]] T* need(const std::shared_ptr<CudaContext>& context, std::size_t count) {
    const std::size_t bytes = std::max<std::size_t>(count * sizeof(T), 1);
    if (memory_.bytes() < bytes) {
      memory_ = Memory();
      auto taken = Memory::take(context, bytes);
      if (!taken) {
        context->error.add(std::unexpected(std::move(taken).error()));
        return nullptr;
      }
      memory_ = std::move(*taken);
    }
    return memory_.template as<T>();
  }
  [[nodiscard]] std::size_t bytes() const { return memory_.bytes(); }
  template<class T>
  [[nodiscard]] T* as() const {
    return memory_.template as<T>();
  }

 private:
  Memory memory_;
};
using CudaRoom = GrowingRoom<CountedMemory>;
using PinnedRoom = GrowingRoom<PinnedBytes>;

}  // namespace llorch
