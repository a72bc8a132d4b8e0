// Time since the machine was started, the time that it slept included: a lease goes on ageing while a machine sleeps,
// which std::chrono::steady_clock does not see. Threads: any. Source: clock_gettime(2), CLOCK_BOOTTIME.
#pragma once

#include <ctime>

#include <chrono>

namespace llorch::coord {

struct BootClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock>;
  static constexpr bool is_steady = true;
  [[nodiscard]] static time_point now() noexcept {
    timespec t{};
    clock_gettime(CLOCK_BOOTTIME, &t);
    return time_point(std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec));
  }
};

}  // namespace llorch::coord
