#include "device/cuda/cuda_watch.h"

#include <condition_variable>
#include <mutex>
#include <thread>

namespace llorch {

struct CudaWatch::Shared {
  cuda::Event event;
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t wanted = 0, done = 0;  // waits so far
  Status result;                       // of the last one
  bool ends = false, ended = false, gave_up = false;

  void watch(int device_index) {
    Status ready = cuda::select_device(device_index);
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return ends || wanted > done; });
      if (ends) break;
      const std::uint64_t number = wanted;
      lock.unlock();
      Status outcome = ready ? event.synchronize() : ready;
      lock.lock();
      result = std::move(outcome), done = number;
      changed.notify_all();
    }
    ended = true;
    changed.notify_all();
  }
};

Result<CudaWatch> CudaWatch::make(int device_index) {
  CudaWatch watch;
  watch.shared_ = std::make_shared<Shared>();
  LLORCH_TRY(watch.shared_->event, cuda::Event::create());
  std::thread([shared = watch.shared_, device_index] { shared->watch(device_index); }).detach();
  return watch;
}

CudaWatch::~CudaWatch() {
  if (!shared_) return;
  std::unique_lock lock(shared_->mutex);
  shared_->ends = true;
  shared_->changed.notify_all();
  if (!shared_->gave_up) shared_->changed.wait(lock, [this] { return shared_->ended; });
}

Status CudaWatch::wait(cuda::Stream& stream, std::chrono::milliseconds limit) {
  std::unique_lock lock(shared_->mutex);
  const auto late = [&] {
    return fail(ErrorCode::kCudaError, "the device has not finished a step within {} s", limit.count() / 1000.0);
  };
  if (shared_->gave_up) return late();
  LLORCH_OK(stream.record(shared_->event));
  const std::uint64_t number = ++shared_->wanted;
  shared_->changed.notify_all();
  if (!shared_->changed.wait_for(lock, limit, [&] { return shared_->done >= number; })) {
    shared_->gave_up = true;
    return late();
  }
  return shared_->result;
}

bool CudaWatch::gave_up() const { return shared_ && shared_->gave_up; }

}  // namespace llorch
