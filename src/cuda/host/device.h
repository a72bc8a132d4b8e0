// The emulated device: streams that run late, events, memory, and the first failure.
//
// Nothing runs when it is enqueued. What synchronises (with a stream, an event; a free) runs what it waits for, on the
// calling thread. What no event orders runs by LLORCH_CUDA_ORDER (order.h):
//   forward: only what the caller waits for   reverse: all other streams first   random: some stream at each step
// Asynchronous copies read and write host memory when they run; the host target of one is poisoned until then.
// A failure is kept, as a GPU keeps one: all that comes later fails with the same text, until reset().
// Thread-safe: one lock over everything, held while kernels run.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cuda/host/capture.h"
#include "cuda/host/memory.h"
#include "cuda/host/operation.h"
#include "cuda/host/order.h"
#include "cuda/host/settings.h"

namespace llorch::cuda::host {

class Device {
 public:
  static Device& instance();

  /// Takes the order for what is enqueued and run from now on.
  void set_order(Order order);
  /// Forgets all that waits, the failure and the fault; who hangs goes on.
  void reset();
  /// From the next wait for an event on.
  void plant(Fault fault);
  [[nodiscard]] Problem failure();
  void fail(std::string text);

  StreamQueue* create_stream();
  void destroy_stream(StreamQueue* stream);  // after what waits in it
  Problem enqueue(StreamQueue* stream, Operation operation);
  Problem record(StreamQueue* stream, EventMark& event);
  Problem wait(StreamQueue* stream, EventMark& event);
  Problem synchronize(StreamQueue* stream);
  Problem synchronize(EventMark& event);
  /// Whether the last record is complete. Each call does a little of what it waits for, as time would.
  bool poll(EventMark& event);

  Problem begin_capture(StreamQueue* stream);
  Problem end_capture(StreamQueue* stream, GraphNodes& graph);
  Problem launch(const GraphNodes& graph, StreamQueue* stream);

  void* allocate(std::size_t bytes, MemoryKind kind);
  void release(void* at);  // after all that waits
  /// Of this kind, where one is given.
  [[nodiscard]] bool contains(const void* at, std::size_t bytes, std::optional<MemoryKind> kind = {});
  /// How often memory was taken so far, of both kinds.
  [[nodiscard]] std::uint64_t allocations();
  [[nodiscard]] std::size_t memory_free_bytes();
  void set_memory_bytes(std::size_t bytes);
  [[nodiscard]] std::size_t memory_bytes();

  /// For operations as they run, under the lock: choices for the next launch.
  Order next_order();
  Chooser& chooser() { return chooser_; }

 private:
  Device();
  using Lock = std::unique_lock<std::recursive_mutex>;

  void step(StreamQueue& stream);
  void complete(EventState& event, std::uint64_t number);
  void run_others(const StreamQueue* except);
  void run_until_empty(StreamQueue& stream);
  void run_until_complete(EventState& event, std::uint64_t number, StreamQueue* stream);
  StreamQueue* any_stream(StreamQueue* wanted);
  void drain();
  void drop_waiting();
  Problem checked();
  void hide_target(const Operation& operation);
  void meet_fault(Lock& lock);
  bool captures();

  std::recursive_mutex mutex_;
  std::condition_variable_any unplanted_;
  Fault fault_;
  std::uint64_t waits_ = 0;  // for events, since the fault was planted
  Order order_;
  Chooser chooser_{Order{}};
  std::vector<std::unique_ptr<StreamQueue>> streams_;
  Problem failure_;
};

}  // namespace llorch::cuda::host
