// For tests of what a turn of the event loop costs: work of a known size on the clock that turns are measured with.
#pragma once
#include <chrono>
#include <ctime>

namespace llorch::net {

/// Computes for `time` of this thread's own CPU time. By the clock on the wall, a thread that waits for its turn on a
/// busy machine would have done its work by waiting.
inline void compute_for(std::chrono::milliseconds time) {
  const auto cpu = [] {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
  };
  for (const auto end = cpu() + time; cpu() < end;) {
  }
}

}  // namespace llorch::net
