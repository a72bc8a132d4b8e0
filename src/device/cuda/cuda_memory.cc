#include "device/cuda/cuda_memory.h"

namespace llorch {
namespace {

/// What addresses point to while a context measures: nobody reads there.
void* nowhere() { return reinterpret_cast<void*>(std::uintptr_t{1} << 20); }

/// The error of an allocation, with what is free and what helps.
Error too_little(int index, std::size_t bytes, Error error) {
  if (error.code != ErrorCode::kVramOom) return error;
  const auto properties = cuda::device_properties(index);
  if (!properties) return error;
  error.message = fmt::format(
      "alloc of {} bytes of device memory failed: {} of {} are free on cuda:{}; end other programs on this GPU, or ask "
      "for less (--ctx, --max-batch, --kv-cache-size-mb)",
      bytes, properties->memory_free_bytes, properties->memory_bytes, index);
  return error;
}

}  // namespace

Status CudaContext::answers() const {
  if (lost) return fail(ErrorCode::kCudaError, "the device does not answer");
  return {};
}

Status CudaContext::wait() {
  if (measuring) return {};
  LLORCH_OK(answers());
  Status done = watch.wait(stream, limit);
  lost = watch.gave_up();
  return done;
}

void CudaContext::hold(const void* at, std::size_t size) {
  bytes += size;
  const std::lock_guard lock(mutex_);
  if (!measuring && size > 0) held_[at] = size;
}

void CudaContext::release(const void* at, std::size_t size) {
  bytes -= size;
  const std::lock_guard lock(mutex_);
  held_.erase(at);
}

Status CudaContext::check_resident() {
  const std::lock_guard lock(mutex_);
  for (const auto& [at, size] : held_) LLORCH_OK(cuda::check_on_device(at, size, index));
  return {};
}

template<cuda::MemoryPlace kPlace>
Result<HeldMemory<kPlace>> HeldMemory<kPlace>::take(std::shared_ptr<CudaContext> context, std::size_t bytes) {
  HeldMemory out;
  if (context->measuring) {
    out.at_ = nowhere();
  } else {
    LLORCH_OK(cuda::select_device(context->index));
    auto taken = cuda::PlacedMemory<kPlace>::allocate(bytes);
    if (!taken) return std::unexpected(too_little(context->index, bytes, std::move(taken).error()));
    out.memory_ = std::move(*taken);
    out.at_ = out.memory_.data();
  }
  out.bytes_ = bytes;
  if (kPlace == cuda::MemoryPlace::kDevice) context->hold(out.at_, bytes);
  out.context_ = std::move(context);
  return out;
}

template<cuda::MemoryPlace kPlace>
HeldMemory<kPlace>::~HeldMemory() {
  if (!context_) return;
  if (kPlace == cuda::MemoryPlace::kDevice) context_->release(at_, bytes_);
  if (bytes_ > 0) ++context_->frees;
  if (context_->lost) memory_.abandon();
}

template class HeldMemory<cuda::MemoryPlace::kDevice>;
template class HeldMemory<cuda::MemoryPlace::kPinned>;

}  // namespace llorch
