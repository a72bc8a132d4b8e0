#include "hive/process_stats.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <sstream>

#include "base/thread_role.h"
#include "hive/hive.h"

namespace llorch::hive {
namespace {

/// Of a process, from its "stat".
struct Times {
  std::int64_t cpu_us = 0;
  double uptime_s = 0;
};

std::optional<Times> times_of(const std::string& proc) {
  std::ifstream in(proc + "stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const std::size_t name_end = text.rfind(')');  // a program's name may have spaces
  if (name_end == text.npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  std::int64_t user = 0, system = 0, started = 0;  // started: since the machine was
  fields >> user >> system;
  for (int i = 0; i < 6; ++i) fields >> skipped;
  timespec up{};
  if (!(fields >> started) || clock_gettime(CLOCK_BOOTTIME, &up) != 0) return std::nullopt;
  const std::int64_t ticks = sysconf(_SC_CLK_TCK);
  const double since_boot = static_cast<double>(up.tv_sec) + static_cast<double>(up.tv_nsec) / 1e9;
  return Times{(user + system) * (1'000'000 / ticks),
               std::max(0.0, since_boot - static_cast<double>(started) / static_cast<double>(ticks))};
}

std::optional<std::pair<std::int64_t, std::int64_t>> io_of(const std::string& proc) {
  std::ifstream in(proc + "io");
  std::pair<std::int64_t, std::int64_t> io{-1, -1};
  std::string key;
  for (std::int64_t v = 0; in >> key >> v;) {
    if (key == "read_bytes:") io.first = v;
    if (key == "write_bytes:") io.second = v;
  }
  return io.first < 0 || io.second < 0 ? std::nullopt : std::optional(io);
}

template<class T>
boost::json::value or_null(const std::optional<T>& v) {
  return v ? boost::json::value(*v) : boost::json::value(nullptr);
}

}  // namespace

ProcessFigures ProcessMeter::measure(std::int64_t pid, const Cgroup* group) {
  assert_may_block();
  const std::string proc = fmt::format("/proc/{}/", pid);
  const auto now = Clock::now();
  const double us = last_ ? std::chrono::duration<double, std::micro>(now - *last_).count() : 0;
  // Megabytes a second are bytes a microsecond.
  const auto rate = [us](std::optional<std::int64_t>& before, std::optional<std::int64_t> value, double scale) {
    const auto past = std::exchange(before, value);
    return past && value && us > 0 ? std::optional(scale * static_cast<double>(*value - *past) / us) : std::nullopt;
  };
  ProcessFigures f;
  std::int64_t pages = 0;
  if (std::ifstream in(proc + "statm"); in >> pages >> pages) f.rss_mb = (pages * sysconf(_SC_PAGESIZE)) >> 20;
  auto cpu = group ? group->cpu_us() : std::nullopt;
  auto io = group ? group->io_bytes() : std::nullopt;
  const auto times = times_of(proc);
  if (times) f.uptime_s = times->uptime_s;
  if (!cpu && times) cpu = times->cpu_us;
  if (!io) io = io_of(proc);
  f.cpu_pct = rate(cpu_us_, cpu, 100);
  f.io_r_mb_s = rate(read_, io ? std::optional(io->first) : std::nullopt, 1);
  f.io_w_mb_s = rate(written_, io ? std::optional(io->second) : std::nullopt, 1);
  f.pids = group ? group->pids() : std::vector{pid};
  last_ = f.measured_at = now;
  return f;
}

std::optional<double> MachineMeter::measure() {
  assert_may_block();
  std::ifstream in("/proc/stat");
  std::string name;
  if (!(in >> name) || name != "cpu") return std::nullopt;
  std::int64_t all = 0, idle = 0, v = 0;
  for (int i = 0; i < 8 && in >> v; ++i) {  // user nice system idle iowait irq softirq steal
    all += v;
    if (i == 3 || i == 4) idle += v;
  }
  const auto past = std::exchange(last_, std::pair(all - idle, all));
  if (!past || all <= past->second) return std::nullopt;
  return std::clamp(100.0 * static_cast<double>(all - idle - past->first) / static_cast<double>(all - past->second),
                    0.0, 100.0);
}

boost::json::value measured_ago(std::optional<std::chrono::steady_clock::time_point> measured_at) {
  if (!measured_at) return nullptr;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - *measured_at).count();
}

boost::json::object figures_of(const Hive& hive, const WorkerProcess& w) {
  const ProcessFigures& f = w.figures;
  const auto vram = hive.gpu_share(w).worker_bytes;
  const boost::json::array pids =
      f.pids.empty() ? boost::json::array{w.facts.pid} : boost::json::value_from(f.pids).as_array();
  boost::json::object o = w.about;
  const boost::json::object measured{
      {"service", "llorch-worker-" + w.facts.kind},
      {"model", w.facts.model_ref},
      {"gpu", w.facts.device == "cpu" ? boost::json::value(nullptr) : boost::json::value(w.facts.device)},
      {"group", "llm"},
      {"instance", w.facts.worker_id},
      {"cgroup", w.cgroup.empty() ? boost::json::value(nullptr) : boost::json::value(w.cgroup)},
      {"pids", pids},
      {"health_status", w.missed_probes == 0 ? "healthy" : "degraded"},
      {"cpu_pct", or_null(f.cpu_pct)},
      {"rss_mb", or_null(f.rss_mb)},
      {"io_r_mb_s", or_null(f.io_r_mb_s)},
      {"io_w_mb_s", or_null(f.io_w_mb_s)},
      {"vram_mb", or_null(vram ? std::optional(*vram >> 20) : std::nullopt)},
      {"sleeps_in_s", or_null(hive.sleeps_in(w))},
      {"uptime_s", or_null(f.uptime_s)},
      {colony::kMeasuredAgo, measured_ago(f.measured_at)}};
  for (const auto& figure : measured) o[figure.key()] = figure.value();
  return o;
}

boost::json::object process_stats(const Hive& hive, const WorkerProcess& w) {
  boost::json::object o = figures_of(hive, w);
  const Hive::GpuShare gpu = hive.gpu_share(w);
  o["pid"] = w.facts.pid, o["state"] = w.facts.state;
  o["gpu_util_pct"] = or_null(gpu.util_pct);
  o["total_vram_mb"] = or_null(gpu.total_bytes ? std::optional(*gpu.total_bytes >> 20) : std::nullopt);
  return o;
}

}  // namespace llorch::hive
