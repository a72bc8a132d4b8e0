#include "hive/devices.h"

#include <algorithm>
#include <charconv>
#include <climits>
#include <fstream>
#include <thread>

#include "base/integer.h"
#include "security/validate.h"

namespace llorch::hive {
namespace {

std::string line_after(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key)) {
      const std::size_t at = line.find_first_not_of(" \t:", key.size());
      return at == std::string::npos ? "" : line.substr(at);
    }
  return {};
}

colony::Bytes whole(std::string_view text) {
  std::int64_t v = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), v);
  return problem == std::errc{} && v >= 0 ? colony::Bytes(v) : std::nullopt;
}

colony::Bytes kib(const char* key) {
  const auto v = whole(line_after("/proc/meminfo", key));
  return v ? colony::Bytes(*v << 10) : std::nullopt;
}

/// 89 of "8.9".
std::optional<int> capability(std::string_view text) {
  const std::size_t dot = std::min(text.find('.'), text.size());
  const auto major = parse_integer(text.substr(0, dot), 1, 99),
             minor = parse_integer(text.substr(std::min(dot + 1, text.size())), 0, 9);
  return major && minor ? std::optional(10 * *major + *minor) : std::nullopt;
}

/// A limit of our cgroup (version 2), where there is one.
colony::Bytes cgroup_figure(const char* name) {
  std::ifstream in(std::string("/sys/fs/cgroup/") + name);
  std::string text;
  return in >> text ? whole(text) : std::nullopt;
}

}  // namespace

colony::Device cpu_device() {
  colony::Device d{
      "cpu", line_after("/proc/cpuinfo", "model name"), "cpu", kib("MemTotal"), kib("MemAvailable"), "", "", {}};
  if (d.name.empty()) d.name = "CPU";
  if (const auto limit = cgroup_figure("memory.max"); limit && d.memory_total && *limit < *d.memory_total) {
    d.memory_total = limit;
    if (const auto used = cgroup_figure("memory.current"); used && d.memory_free)
      d.memory_free = std::min(*d.memory_free, std::max<std::int64_t>(0, *limit - *used));
  }
  d.cores = std::max(1u, std::thread::hardware_concurrency());
  return d;
}

bool is_visible(int index, std::string_view uuid, const std::optional<std::string>& visible) {
  if (!visible) return true;
  for (std::string_view left = *visible; !left.empty();) {
    const std::string_view name = left.substr(0, left.find(','));
    left.remove_prefix(std::min(left.size(), name.size() + 1));
    if (parse_integer<int>(name) == index || (name.starts_with("GPU-") && uuid.starts_with(name))) return true;
  }
  return false;
}

void read_gpu_lines(std::string_view text, DeviceReport& report) {
  constexpr std::int64_t kMiB = 1 << 20;
  while (!text.empty()) {
    const std::string line(text.substr(0, text.find('\n')));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.empty()) continue;
    std::vector<std::string> cells;
    for (std::size_t at = 0; at <= line.size();) {
      const std::size_t comma = std::min(line.find(',', at), line.size());
      const std::size_t first = std::min(line.find_first_not_of(' ', at), comma);
      cells.push_back(line.substr(first, comma - first));
      at = comma + 1;
    }
    const bool complete = cells.size() == 8 || cells.size() == 9;
    const auto index = complete ? whole(cells[0]) : std::nullopt;
    const auto total = complete ? whole(cells[2]) : std::nullopt;
    if (!index || !total || *total > gpu::kMemoryMiBMax || cells[1].empty() || cells[1].size() > 256 ||
        security::check_display(cells[1])) {
      report.unreadable.push_back(security::sanitize(line));
      continue;
    }
    const std::string_view uuid = cells.size() == 9 ? std::string_view(cells[8]) : "";
    if (!is_visible(static_cast<int>(std::min<std::int64_t>(*index, INT_MAX)), uuid, report.visible)) continue;
    auto free = whole(cells[3]);
    if (free) *free = std::min(*free, *total) * kMiB;
    gpu::Gpu g;
    g.capability = capability(cells[4]);
    report.devices.push_back({"cuda:" + std::to_string(*index),
                              cells[1],
                              "gpu",
                              *total * kMiB,
                              free,
                              cells[4],
                              cells[5],
                              {},
                              gpu::problem_of(g, "", 0)});
    const auto at_most = [](std::optional<std::int64_t> v, std::int64_t most) {
      return v && *v <= most ? v : std::nullopt;
    };
    report.use[report.devices.back().id] = {at_most(whole(cells[6]), 100), at_most(whole(cells[7]), 200), {}, false};
  }
}

void add_gpus(const gpu::Reading& reading, DeviceReport& report) {
  for (const gpu::Gpu& g : reading.gpus) {
    if (!is_visible(g.index, g.uuid, report.visible)) continue;
    const std::string id = fmt::format("cuda:{}", g.index);
    report.devices.push_back({id,
                              g.name,
                              "gpu",
                              g.memory_total,
                              g.memory_free,
                              g.capability ? gpu::capability_text(*g.capability) : "",
                              g.pci_bus_id,
                              {},
                              gpu::problem_of(g, reading.driver, reading.cuda_version)});
    report.use[id] = {g.util_pct, g.temp_c, g.process_bytes, g.lost};
  }
  report.unreadable.insert(report.unreadable.end(), reading.unreadable.begin(), reading.unreadable.end());
}

void add_problem(const std::string& problem, DeviceReport& report) {
  for (colony::Device& d : report.devices)
    if (d.type == "gpu" && d.problem.empty()) d.problem = problem;
}

}  // namespace llorch::hive
