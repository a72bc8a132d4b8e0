#include <unistd.h>

#include <fstream>
#include <sstream>

#include "hive/hive.h"

namespace llorch::hive {

boost::json::object process_stats(const WorkerProcess& w) {
  const std::string proc = fmt::format("/proc/{}/", w.facts.pid);
  boost::json::value rss = nullptr, cpu = nullptr;
  std::int64_t pages = 0;
  if (std::ifstream in(proc + "statm"); in >> pages >> pages) rss = (pages * sysconf(_SC_PAGESIZE)) >> 20;
  const double uptime = std::chrono::duration<double>(net::Clock::now() - w.started).count();
  if (std::ifstream in(proc + "stat"); in) {
    std::string text((std::istreambuf_iterator<char>(in)), {});
    std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
    std::string skipped;
    std::int64_t user = 0, system = 0;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    if (fields >> user >> system && uptime > 0)
      cpu = 100.0 * static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK)) / uptime;
  }
  return {
      {"pid", w.facts.pid},      {"group", "llm"},       {"instance", w.facts.worker_id}, {"cpu_pct", cpu},
      {"rss_mb", rss},           {"io_r_mb_s", nullptr}, {"io_w_mb_s", nullptr},          {"uptime_s", uptime},
      {"gpu_util_pct", nullptr}, {"vram_mb", nullptr},   {"total_vram_mb", nullptr},      {"model", w.facts.model_ref},
      {"state", w.facts.state}};
}

}  // namespace llorch::hive
