#include "hive/metrics.h"

namespace llorch::hive {

Metrics::Metrics()
    : gpus_(meter_.gauges("gpus_total", "GPUs of this machine")),
      gpu_total_(meter_.gauges("gpu_vram_total_bytes", "Memory of a GPU")),
      gpu_used_(meter_.gauges("gpu_vram_allocated_bytes", "Memory of a GPU that is taken")),
      workers_(meter_.gauges("workers_total", "Worker processes by state")),
      starts_(meter_.counters("worker_starts_total", "Workers started, by outcome")),
      stops_(meter_.counters("worker_stops_total", "Workers that ended, by reason")),
      downloads_(meter_.counters("model_downloads_total", "Model transfers, by outcome")) {
  // From zero on: what has not happened yet can be looked for, and its first time is a step.
  for (const char* outcome : {"ready", "failed"}) starts_.with({{"outcome", outcome}});
  for (const char* reason : {"asked", "crashed"}) stops_.with({{"reason", reason}});
  downloads_.with({{"outcome", "complete"}});
}

void Metrics::gpu(const std::string& id, double total, double used) {
  gpu_total_.with({{"gpu_id", id}}).Set(total);
  gpu_used_.with({{"gpu_id", id}}).Set(used);
}

}  // namespace llorch::hive
