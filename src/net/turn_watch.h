// How long the turns of an event loop take. A turn is one handler.
//
// A turn's time is what the thread computed plus what it was blocked (a file, a lock, a child process): the time from
// its beginning to its end, less the time that the thread was ready and waited for a processor. The kernel counts the
// latter in /proc/thread-self/schedstat; where it does not, only computing is counted (CLOCK_THREAD_CPUTIME_ID).
// One watch belongs to one thread.
#pragma once

#include <chrono>

#include "base/descriptor.h"

namespace llorch::net {

class TurnWatch {
 public:
  /// Watches the calling thread until it is destroyed, on the same thread.
  TurnWatch();
  ~TurnWatch();
  TurnWatch(const TurnWatch&) = delete;
  TurnWatch& operator=(const TurnWatch&) = delete;

  /// The next handler begins a turn.
  void arm() { armed_ = true; }
  /// Called before every handler of this thread; the first one after arm() counts.
  void handler_begins();
  /// The time of the turn that just ended; zero where no handler has run since arm().
  [[nodiscard]] std::chrono::nanoseconds turn();

 private:
  using Clock = std::chrono::steady_clock;
  /// What is not counted, so far: waiting for a processor, or all but computing.
  [[nodiscard]] std::chrono::nanoseconds uncounted(Clock::time_point now) const;
  Descriptor schedstat_;
  bool armed_ = false, began_ = false;
  Clock::time_point start_;
  std::chrono::nanoseconds uncounted_{0};
};

}  // namespace llorch::net
