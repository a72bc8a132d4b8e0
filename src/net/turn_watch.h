// How long the turns of an event loop take. A turn is one handler.
//
// A turn's own time is what the thread computed plus what it was blocked (a file, a lock, a child process): the time
// from its beginning to its end, less the time that the thread was ready and waited for a processor. The kernel counts
// the latter in /proc/thread-self/schedstat. Where it does not, and in a turn that was never blocked (it has given up
// the processor nowhere, ru_nvcsw), only computing is counted (CLOCK_THREAD_CPUTIME_ID): the rest is what the host of a
// virtual machine took away. To ask the kernel three times costs more than most turns take, so only whoever looks for
// slow turns does; for everybody else a turn's time is that of the clock, waiting included. What the host took away of
// the whole machine is in /proc/stat, which takes long to read: it is read at most once a second, and after a turn that
// `slow_from` calls slow. One watch belongs to one thread.
#pragma once

#include <chrono>
#include <optional>

#include "base/descriptor.h"
#include "net/event_loop.h"

namespace llorch::net {

class TurnWatch {
 public:
  enum class Time { kWall, kOwn };
  /// Watches the calling thread until it is destroyed, on the same thread.
  explicit TurnWatch(Time time, std::chrono::nanoseconds slow_from = std::chrono::nanoseconds::max());
  ~TurnWatch();
  TurnWatch(const TurnWatch&) = delete;
  TurnWatch& operator=(const TurnWatch&) = delete;

  /// The next handler begins a turn.
  void arm() { armed_ = true; }
  /// Called before every handler of this thread; the first one after arm() counts.
  void handler_begins();
  /// Called before an operation's handler, with its name.
  void operation_ends(const char* name) { operation_ = name; }
  /// The turn that just ended; of no time where no handler has run since arm(). What the thread has had is known where
  /// Time::kOwn is asked for and the turn took a millisecond or more.
  [[nodiscard]] Turn turn();

 private:
  using Clock = std::chrono::steady_clock;
  /// What the thread has had so far.
  struct Mark {
    Clock::time_point time;
    std::chrono::nanoseconds computed{0}, waited{0};
    long blocked = 0, major_faults = 0;
  };
  [[nodiscard]] Mark mark() const;
  Time time_;
  std::chrono::nanoseconds slow_from_;
  Descriptor schedstat_, stat_;
  bool armed_ = false, began_ = false;
  const char *operation_ = "", *turn_operation_ = "";
  Mark start_;
  std::optional<std::chrono::milliseconds> stolen_;  // by the host, since the machine's start
  Clock::time_point stolen_at_;                      // when that was read
};

}  // namespace llorch::net
