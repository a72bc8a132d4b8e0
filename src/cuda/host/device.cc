#include "cuda/host/device.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "cuda/host/block.h"
#include "cuda/host/kernel_call.h"
#include "cuda/host/poison.h"

namespace llorch::cuda::host {
namespace {

bool overlap(const HostRange& a, const HostRange& b) {
  const auto* first = static_cast<const std::byte*>(a.at);
  const auto* second = static_cast<const std::byte*>(b.at);
  return a.bytes > 0 && b.bytes > 0 && first < second + b.bytes && second < first + a.bytes;
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Device& Device::instance() {
  static Device& device = *new Device;  // never destroyed: a thread may hang in it (LLORCH_CUDA_FAULT)
  return device;
}

Device::Device() {
  set_order(order_of_environment().value_or(Order{}));  // nonsense: select_device() says so
  fault_ = fault_of_environment().value_or(Fault{});
}

void Device::set_order(Order order) {
  const Lock lock(mutex_);
  order_ = order;
  chooser_ = Chooser(order);
}

Order Device::next_order() { return {order_.kind, chooser_.random() ? chooser_.draw() : 0}; }

void Device::reset() {
  const Lock lock(mutex_);
  drop_waiting();
  for (auto& stream : streams_) stream->capture.reset();
  failure_.reset();
  fault_ = Fault{};
  unplanted_.notify_all();
}

void Device::plant(Fault fault) {
  const Lock lock(mutex_);
  fault_ = fault, waits_ = 0;
}

void Device::meet_fault(Lock& lock) {
  if (fault_.kind == Fault::Kind::kNone || ++waits_ < fault_.wait) return;
  if (fault_.kind == Fault::Kind::kLost) fail("the device is lost (planted)");
  unplanted_.wait(lock, [this] { return fault_.kind != Fault::Kind::kHang; });
}

Problem Device::failure() {
  const Lock lock(mutex_);
  return failure_;
}

void Device::fail(std::string text) {
  const Lock lock(mutex_);
  if (!failure_) failure_ = std::move(text);
  drop_waiting();
}

void Device::drop_waiting() {
  for (auto& stream : streams_) {
    for (std::size_t i = stream->first; i < stream->waiting.size(); ++i)
      if (auto& event = stream->waiting[i].completes) complete(*event, stream->waiting[i].number);
    stream->waiting.clear();
    stream->first = 0;
  }
}

StreamQueue* Device::create_stream() {
  const Lock lock(mutex_);
  return streams_.emplace_back(std::make_unique<StreamQueue>()).get();
}

void Device::destroy_stream(StreamQueue* stream) {
  const Lock lock(mutex_);
  run_until_empty(*stream);
  std::erase_if(streams_, [&](const auto& each) { return each.get() == stream; });
}

void Device::hide_target(const Operation& operation) {
  const HostRange& target = operation.host_target;
  for (const auto& stream : streams_)  // what waits to be read must stay
    for (std::size_t i = stream->first; i < stream->waiting.size(); ++i)
      if (overlap(stream->waiting[i].host_source, target)) return;
  if (target.bytes > 0) poison(const_cast<void*>(target.at), target.bytes);
}

Problem Device::enqueue(StreamQueue* stream, Operation operation) {
  const Lock lock(mutex_);
  if (failure_) return failure_;
  if (stream->capture) {
    stream->capture->add(stream, std::move(operation));
    return std::nullopt;
  }
  hide_target(operation);
  stream->waiting.push_back(std::move(operation));
  return std::nullopt;
}

Problem Device::record(StreamQueue* stream, EventMark& event) {
  const Lock lock(mutex_);
  if (failure_) return failure_;
  EventState& state = *event.state;
  state.capture = stream->capture;
  if (stream->capture) {
    state.node = stream->capture->last(stream);
    return std::nullopt;
  }
  state.stream = stream;
  Operation operation;
  operation.completes = event.state;
  operation.number = ++state.recorded;
  stream->waiting.push_back(std::move(operation));
  return std::nullopt;
}

Problem Device::wait(StreamQueue* stream, EventMark& event) {
  const Lock lock(mutex_);
  if (failure_) return failure_;
  const EventState& state = *event.state;
  if (auto capture = state.capture.lock()) {
    if (stream->capture && stream->capture != capture) return "an event of one capture is waited for in another";
    capture->join(stream);
    stream->capture = capture;
    capture->wait(stream, state.node);
    return std::nullopt;
  }
  if (stream->capture) return "a stream that captures waits for an event outside its capture";
  Operation operation;
  operation.awaits = event.state;
  operation.number = state.recorded;
  operation.recorded_in = state.stream;
  stream->waiting.push_back(std::move(operation));
  return std::nullopt;
}

void Device::complete(EventState& event, std::uint64_t number) {
  event.completed = std::max(event.completed, number);
  event.seconds = now_seconds();
}

void Device::step(StreamQueue& stream) {
  const Operation& front = stream.waiting[stream.first];
  if (front.awaits && front.awaits->completed < front.number) return step(*front.recorded_in);
  const Operation operation = std::move(stream.waiting[stream.first++]);
  if (stream.empty()) stream.waiting.clear(), stream.first = 0;
  if (operation.completes) complete(*operation.completes, operation.number);
  if (!operation.run) return;
  if (auto problem = operation.run()) fail(std::move(*problem));
}

void Device::run_others(const StreamQueue* except) {
  for (std::size_t i = streams_.size(); i-- > 0;)
    while (streams_[i].get() != except && !streams_[i]->empty()) step(*streams_[i]);
}

StreamQueue* Device::any_stream(StreamQueue* wanted) {
  if (!chooser_.random()) return wanted;
  std::vector<StreamQueue*> busy;
  for (const auto& stream : streams_)
    if (!stream->empty()) busy.push_back(stream.get());
  return busy[chooser_.index(busy.size())];
}

void Device::run_until_empty(StreamQueue& stream) {
  if (order_.kind == Order::Kind::kReverse) run_others(&stream);
  while (!stream.empty()) step(*any_stream(&stream));
}

void Device::run_until_complete(EventState& event, std::uint64_t number, StreamQueue* stream) {
  if (order_.kind == Order::Kind::kReverse) run_others(stream);
  while (event.completed < number) step(*any_stream(stream));
}

Problem Device::checked() {
  if (!failure_)
    if (auto overrun = memory().overrun()) fail(std::move(*overrun));
  return failure_;
}

Problem Device::synchronize(StreamQueue* stream) {
  const Lock lock(mutex_);
  if (stream->capture) return "a stream that captures cannot be synchronised with";
  run_until_empty(*stream);
  return checked();
}

Problem Device::synchronize(EventMark& event) {
  Lock lock(mutex_);
  meet_fault(lock);
  run_until_complete(*event.state, event.state->recorded, event.state->stream);
  return checked();
}

bool Device::poll(EventMark& event) {
  const Lock lock(mutex_);
  EventState& state = *event.state;
  if (state.completed < state.recorded) step(*any_stream(state.stream));
  return state.completed >= state.recorded;
}

Problem Device::begin_capture(StreamQueue* stream) {
  const Lock lock(mutex_);
  if (failure_) return failure_;
  if (stream->capture) return "the stream captures already";
  stream->capture = std::make_shared<Capture>(stream);
  return std::nullopt;
}

Problem Device::end_capture(StreamQueue* stream, GraphNodes& graph) {
  const Lock lock(mutex_);
  const auto capture = stream->capture;
  if (!capture || capture->origin() != stream) return "no capture began in this stream";
  for (StreamQueue* each : capture->streams()) each->capture.reset();
  if (auto problem = capture->check_joined()) return problem;
  if (fault_.kind == Fault::Kind::kNoGraphs) return "there is no memory for a graph (planted)";
  graph.nodes = std::make_shared<const std::vector<GraphNode>>(capture->take_nodes());
  return std::nullopt;
}

Problem Device::launch(const GraphNodes& graph, StreamQueue* stream) {
  const Lock lock(mutex_);
  for (const auto& node : *graph.nodes) hide_target(node.operation);
  Operation operation;
  operation.run = [this, nodes = graph.nodes] { return run_graph(*nodes, chooser_); };
  return enqueue(stream, std::move(operation));
}

void Device::drain() {
  for (std::size_t i = 0; i < streams_.size(); ++i)
    while (!streams_[i]->empty()) step(*any_stream(streams_[i].get()));
}

/// As CUDA refuses it; a graph would keep addresses that are not for it.
bool Device::captures() {
  const bool any = std::ranges::any_of(streams_, [](const auto& stream) { return stream->capture != nullptr; });
  if (any) fail("memory is taken or freed while a stream captures");
  return any;
}

void* Device::allocate(std::size_t bytes, MemoryKind kind) {
  const Lock lock(mutex_);
  if (captures()) return nullptr;
  return memory().allocate(bytes, kind);
}

void Device::release(void* at) {
  const Lock lock(mutex_);
  (void)captures();
  drain();
  if (auto problem = memory().release(at)) fail(std::move(*problem));
}

bool Device::contains(const void* at, std::size_t bytes, std::optional<MemoryKind> kind) {
  const Lock lock(mutex_);
  return memory().contains(at, bytes, kind);
}

std::uint64_t Device::allocations() {
  const Lock lock(mutex_);
  return memory().allocated();
}

std::size_t Device::memory_bytes() {
  const Lock lock(mutex_);
  return memory().device_bytes_max();
}
std::size_t Device::memory_free_bytes() {
  const Lock lock(mutex_);
  return memory().device_bytes_max() - std::min(memory().device_bytes_max(), memory().device_bytes());
}
void Device::set_memory_bytes(std::size_t bytes) {
  const Lock lock(mutex_);
  memory().set_device_bytes_max(bytes);
}

void enqueue(StreamHandle stream, KernelCall call) {
  auto& device = Device::instance();
  Operation operation;
  operation.run = [&device, call = std::move(call)] { return run_grid(call, device.next_order()); };
  if (auto problem = device.enqueue(stream, std::move(operation))) device.fail(std::move(*problem));
}

}  // namespace llorch::cuda::host
