// What a process takes, measured: from its control group where it has one, else from /proc (H-35, H-36).
//
// What cannot be measured is absent, never zero (H-03). Rates are between two measurements.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hive/cgroup.h"

namespace llorch::hive {

struct ProcessFigures {
  std::vector<std::int64_t> pids;              // of its control group, or its own
  std::optional<double> cpu_pct;               // of one core
  std::optional<std::int64_t> rss_mb;          // resident, what it shares with the page cache included
  std::optional<double> io_r_mb_s, io_w_mb_s;  // on devices
  std::optional<double> uptime_s;              // at that time
  std::optional<std::chrono::steady_clock::time_point> measured_at;
};

class ProcessMeter {
 public:
  /// Figures since the last call; the first call has no rates. Reads files of the kernel: not on the event loop.
  ProcessFigures measure(std::int64_t pid, const Cgroup* group);

 private:
  using Clock = std::chrono::steady_clock;
  std::optional<Clock::time_point> last_;
  std::optional<std::int64_t> cpu_us_, read_, written_;
};

/// What is held and measured of a worker's process. Only the thread that measures touches it.
struct MeasuredProcess {
  std::int64_t pid = 0;
  std::unique_ptr<Cgroup> cgroup;  // null: its figures come from /proc
  ProcessMeter meter;
};

/// Of the whole machine, from /proc/stat.
class MachineMeter {
 public:
  /// Percent of all cores since the last call. Not on the event loop.
  std::optional<double> measure();

 private:
  std::optional<std::pair<std::int64_t, std::int64_t>> last_;  // busy, all
};

/// Seconds since then, as heartbeats tell it; null: never.
[[nodiscard]] boost::json::value measured_ago(std::optional<std::chrono::steady_clock::time_point> measured_at);

}  // namespace llorch::hive
