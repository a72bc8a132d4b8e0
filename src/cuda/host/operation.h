// What waits in a stream of the emulated device, and the events between streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda/handles.h"

namespace llorch::cuda::host {

class Capture;

/// How something went: a message, or nothing.
using Problem = std::optional<std::string>;

struct HostRange {
  const void* at = nullptr;
  std::size_t bytes = 0;
};

/// An event is recorded again and again; who waits for a record waits for its number.
struct EventState {
  std::uint64_t recorded = 0, completed = 0;
  StreamQueue* stream = nullptr;   // where it was recorded last
  double seconds = 0;              // when the last record completed
  std::weak_ptr<Capture> capture;  // that it was recorded in
  int node = -1;                   // of that capture: the one before the record
};
class EventMark {
 public:
  std::shared_ptr<EventState> state = std::make_shared<EventState>();
};

struct Operation {
  std::function<Problem()> run;
  std::shared_ptr<EventState> completes, awaits;  // of a record, of a wait: else null
  std::uint64_t number = 0;                       // of the record
  StreamQueue* recorded_in = nullptr;             // what a wait waits for
  HostRange host_source, host_target;
};

class StreamQueue {
 public:
  std::vector<Operation> waiting;  // in order from `first` on
  std::size_t first = 0;
  std::shared_ptr<Capture> capture;
  [[nodiscard]] bool empty() const { return first == waiting.size(); }
};

}  // namespace llorch::cuda::host
