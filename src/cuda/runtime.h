// The CUDA runtime as the host side uses it, for a GPU (driver/runtime.cc) and for the emulated device
// (host/runtime.cc): memory, streams, events, graphs, properties.
//
// The driver is opened at run time: where there is none, device_count() says so, and the program goes on without.
// Errors: kDeviceNotFound (no driver, no such device), kVramOom (an allocation that does not fit), kCudaError (all
// else, with the runtime's words). A failed launch or kernel is kept (launch.h): every later Status is that failure.
// Ownership: each object frees its own; memory is freed after all work that was enqueued before. Objects belong to the
// device that was selected when they were made. Thread-safe as CUDA is: one stream, one thread at a time; an event may
// be waited for by any thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "cuda/handles.h"

namespace llorch::cuda {

/// How many devices there are: at least one.
[[nodiscard]] Result<int> device_count();

struct DeviceProperties {
  std::string name;
  int capability_major = 0, capability_minor = 0;
  int multiprocessors = 0;
  std::size_t memory_bytes = 0, memory_free_bytes = 0;
  std::size_t shared_bytes_per_block_max = 0;
  int driver_version = 0;  // 13000 for 13.0; 0 on the emulated device
  bool emulated = false;
};
[[nodiscard]] Result<DeviceProperties> device_properties(int index);
/// For this host thread: what it makes from now on is made there.
[[nodiscard]] Status select_device(int index);
/// The first launch or kernel that failed, without waiting for what runs.
[[nodiscard]] Status first_failure();

enum class MemoryPlace { kDevice, kPinned };

/// Owns bytes of one place, at a multiple of 256. What they hold is not defined.
template<MemoryPlace kPlace>
class PlacedMemory {
 public:
  PlacedMemory() = default;
  [[nodiscard]] static Result<PlacedMemory> allocate(std::size_t bytes);
  [[nodiscard]] void* data() const { return memory_.get(); }
  template<class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(memory_.get());
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  /// Gives up the memory without freeing it: that would wait for a device that does not answer any more.
  void abandon() { (void)memory_.release(), bytes_ = 0; }

 private:
  struct Free {
    void operator()(void* at) const;
  };
  std::unique_ptr<void, Free> memory_;
  std::size_t bytes_ = 0;
};
using DeviceMemory = PlacedMemory<MemoryPlace::kDevice>;
/// Host memory that copies go to and from while the host does something else.
using PinnedMemory = PlacedMemory<MemoryPlace::kPinned>;
extern template class PlacedMemory<MemoryPlace::kDevice>;
extern template class PlacedMemory<MemoryPlace::kPinned>;

/// Whether these bytes lie in memory of this device: not in the host's, nor where a driver may move them to. Errors:
/// kCudaError where they do not.
[[nodiscard]] Status check_on_device(const void* at, std::size_t bytes, int index);

class Event {
 public:
  [[nodiscard]] static Result<Event> create();
  /// Waits for the last record.
  [[nodiscard]] Status synchronize() const;
  /// Whether the last record is complete, without waiting.
  [[nodiscard]] Result<bool> done() const;
  [[nodiscard]] EventHandle handle() const { return event_.get(); }

 private:
  struct Destroy {
    void operator()(EventHandle event) const;
  };
  std::unique_ptr<std::remove_pointer_t<EventHandle>, Destroy> event_;
};
/// Between two records that are complete.
[[nodiscard]] Result<double> milliseconds_between(const Event& begin, const Event& end);

/// What a stream captured, ready to run.
class Graph {
 public:
  Graph() = default;
  [[nodiscard]] GraphHandle handle() const { return graph_.get(); }

 private:
  friend class Stream;
  struct Destroy {
    void operator()(GraphHandle graph) const;
  };
  std::unique_ptr<std::remove_pointer_t<GraphHandle>, Destroy> graph_;
};

/// Work in order. Between two streams only events order anything. All but synchronize() return at once; host memory of
/// a copy must stay, and may be read, written or freed only after synchronize() or an event that was recorded behind
/// it.
class Stream {
 public:
  [[nodiscard]] static Result<Stream> create();
  [[nodiscard]] Status copy_to_device(void* device, const void* host, std::size_t bytes);
  [[nodiscard]] Status copy_to_host(void* host, const void* device, std::size_t bytes);
  [[nodiscard]] Status copy_on_device(void* target, const void* source, std::size_t bytes);
  [[nodiscard]] Status fill(void* device, unsigned char value, std::size_t bytes);
  [[nodiscard]] Status record(const Event& event);
  [[nodiscard]] Status wait(const Event& event);
  [[nodiscard]] Status synchronize();
  /// What follows becomes the graph that end_capture() gives, and does not run. A graph takes device memory: where
  /// there is none, end_capture() or launch() gives an error, the stream does not capture any more, and goes on.
  [[nodiscard]] Status begin_capture();
  [[nodiscard]] Result<Graph> end_capture();
  /// The graph must stay until the work is done.
  [[nodiscard]] Status launch(const Graph& graph);
  /// For launch() of cuda/launch.h.
  [[nodiscard]] StreamHandle handle() const { return stream_.get(); }

 private:
  struct Destroy {
    void operator()(StreamHandle stream) const;
  };
  std::unique_ptr<std::remove_pointer_t<StreamHandle>, Destroy> stream_;
};

}  // namespace llorch::cuda
