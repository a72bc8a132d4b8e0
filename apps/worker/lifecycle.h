// From loading to the end: which state the worker is in, and how it ends (W-24).
//
// drain() refuses new requests, lets those under way finish for four fifths of the grace, cancels the rest, and stops
// the loop. What holds a thread longer than the grace ends with the process: see service/exit_deadline.h. Threads: the
// event loop's.
#pragma once

#include <chrono>
#include <functional>
#include <string_view>

#include "net/event_loop.h"

namespace llorch::worker {

enum class WorkerState { kLoading, kIdle, kError, kDraining };

class Lifecycle {
 public:
  struct Parts {
    net::EventLoop& loop;
    std::chrono::milliseconds grace;
    std::function<void()> cancel_loading;
    std::function<void(std::function<void()> then)> when_idle;  // no request holds a place
    std::function<void()> stop_accepting;
    std::function<void(std::function<void()> then)> when_all_is_sent;  // no answer is on its way
    std::function<void()> cancel_all;
    /// Told once when the end begins: after `grace` the process has to be gone.
    std::function<void(std::chrono::milliseconds grace)> ending;
  };
  explicit Lifecycle(Parts parts) : parts_(std::move(parts)) {}

  [[nodiscard]] WorkerState state() const { return state_; }
  [[nodiscard]] int exit_code() const { return exit_code_; }
  /// Loading is done.
  void ready();
  /// It cannot serve: ends at once.
  void failed();
  /// It cannot serve, and says so until it is ended.
  void unhealthy();
  /// A second call ends at once.
  void drain(int exit_code = 0);

 private:
  void all_ended();
  void stop_soon();

  Parts parts_;
  WorkerState state_ = WorkerState::kLoading;
  int exit_code_ = 0;
  net::EventLoop::Timer timer_;
};

}  // namespace llorch::worker
