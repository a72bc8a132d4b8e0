// cuda/runtime.h on the emulated device.
#include "cuda/runtime.h"

#include <cstring>
#include <utility>

#include "cuda/host/block.h"
#include "cuda/host/device.h"
#include "cuda/host/poison.h"
#include "cuda/host/settings.h"

namespace llorch::cuda {
namespace {

host::Device& device() { return host::Device::instance(); }

Status status_of(host::Problem problem) {
  if (problem) return fail(ErrorCode::kCudaError, "{}", *problem);
  return {};
}

/// An operation on device memory, which must be there when it is enqueued.
Status enqueue(StreamHandle stream, std::initializer_list<host::HostRange> device_ranges, host::Operation operation) {
  for (const auto& range : device_ranges)
    if (!device().contains(range.at, range.bytes))
      return fail(ErrorCode::kCudaError, "{} bytes that are not inside device memory", range.bytes);
  return status_of(device().enqueue(stream, std::move(operation)));
}

}  // namespace

Result<int> device_count() {
  LLORCH_OK(host::settings_problem());
  return 1;
}

Status select_device(int index) {
  LLORCH_OK(host::settings_problem());
  if (index != 0) return fail(ErrorCode::kDeviceNotFound, "cuda:{}: the emulated device is cuda:0", index);
  return {};
}

Result<DeviceProperties> device_properties(int index) {
  LLORCH_OK(select_device(index));
  DeviceProperties out;
  out.name = "emulated device";
  out.capability_major = 9;
  out.multiprocessors = 4;
  out.memory_bytes = device().memory_bytes();
  out.memory_free_bytes = device().memory_free_bytes();
  LLORCH_TRY(out.shared_bytes_per_block_max, host::shared_bytes_of_environment());
  out.emulated = true;
  return out;
}

Status first_failure() { return status_of(device().failure()); }

template<MemoryPlace kPlace>
Result<PlacedMemory<kPlace>> PlacedMemory<kPlace>::allocate(std::size_t bytes) {
  constexpr bool kOnDevice = kPlace == MemoryPlace::kDevice;
  PlacedMemory out;
  if (bytes == 0) return out;
  out.memory_.reset(device().allocate(bytes, kOnDevice ? host::MemoryKind::kDevice : host::MemoryKind::kPinned));
  if (!out.memory_)
    return fail(kOnDevice ? ErrorCode::kVramOom : ErrorCode::kInsufficientMemory, "{} bytes of {} memory cannot be had",
                bytes, kOnDevice ? "device" : "pinned");
  out.bytes_ = bytes;
  return out;
}
template<MemoryPlace kPlace>
void PlacedMemory<kPlace>::Free::operator()(void* at) const {
  device().release(at);
}
template class PlacedMemory<MemoryPlace::kDevice>;
template class PlacedMemory<MemoryPlace::kPinned>;

Status check_on_device(const void* at, std::size_t bytes, int index) {
  LLORCH_OK(select_device(index));
  if (bytes == 0 || device().contains(at, bytes, host::MemoryKind::kDevice)) return {};
  return fail(ErrorCode::kCudaError, "{} bytes are not in the memory of cuda:{}", bytes, index);
}

Result<Event> Event::create() {
  Event out;
  out.event_.reset(new host::EventMark);
  return out;
}
void Event::Destroy::operator()(EventHandle event) const { delete event; }
Status Event::synchronize() const { return status_of(device().synchronize(*event_)); }
Result<bool> Event::done() const {
  const bool done = device().poll(*event_);
  LLORCH_OK(first_failure());
  return done;
}
Result<double> milliseconds_between(const Event& begin, const Event& end) {
  LLORCH_OK(begin.synchronize());
  LLORCH_OK(end.synchronize());
  return (end.handle()->state->seconds - begin.handle()->state->seconds) * 1e3;
}

void Graph::Destroy::operator()(GraphHandle graph) const { delete graph; }

Result<Stream> Stream::create() {
  Stream out;
  out.stream_.reset(device().create_stream());
  return out;
}
void Stream::Destroy::operator()(StreamHandle stream) const { device().destroy_stream(stream); }

Status Stream::copy_to_device(void* target, const void* source, std::size_t bytes) {
  host::Operation copy;
  copy.run = [=]() -> host::Problem {
    std::memcpy(target, source, bytes);
    return std::nullopt;
  };
  copy.host_source = {source, bytes};
  return enqueue(handle(), {{target, bytes}}, std::move(copy));
}

Status Stream::copy_to_host(void* target, const void* source, std::size_t bytes) {
  host::Operation copy;
  copy.run = [=]() -> host::Problem {
    if (bytes > 0 && host::holds_poison(source, bytes)) return "a copy to the host of device memory that nothing wrote";
    std::memcpy(target, source, bytes);
    return std::nullopt;
  };
  copy.host_target = {target, bytes};
  return enqueue(handle(), {{source, bytes}}, std::move(copy));
}

Status Stream::copy_on_device(void* target, const void* source, std::size_t bytes) {
  host::Operation copy;
  copy.run = [=]() -> host::Problem {
    std::memcpy(target, source, bytes);
    return std::nullopt;
  };
  return enqueue(handle(), {{target, bytes}, {source, bytes}}, std::move(copy));
}

Status Stream::fill(void* target, unsigned char value, std::size_t bytes) {
  host::Operation fill;
  fill.run = [=]() -> host::Problem {
    std::memset(target, value, bytes);
    return std::nullopt;
  };
  return enqueue(handle(), {{target, bytes}}, std::move(fill));
}

Status Stream::record(const Event& event) { return status_of(device().record(handle(), *event.handle())); }
Status Stream::wait(const Event& event) { return status_of(device().wait(handle(), *event.handle())); }
Status Stream::synchronize() { return status_of(device().synchronize(handle())); }
Status Stream::begin_capture() { return status_of(device().begin_capture(handle())); }
Result<Graph> Stream::end_capture() {
  Graph out;
  out.graph_.reset(new host::GraphNodes);
  LLORCH_OK(status_of(device().end_capture(handle(), *out.graph_)));
  return out;
}
Status Stream::launch(const Graph& graph) { return status_of(device().launch(*graph.handle(), handle())); }

}  // namespace llorch::cuda
