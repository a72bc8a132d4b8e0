// The worker's metrics, by the names of O-20.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>

namespace llorch::worker {

class Metrics {
 public:
  Metrics();
  /// Prometheus text.
  [[nodiscard]] std::string text() const;
  void request(const std::string& outcome) { requests_.Add({{"outcome", outcome}}).Increment(); }
  void deadline(const std::string& reason) {
    deadlines_.Add({{"component", "worker"}, {"reason", reason}}).Increment();
  }

 private:
  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  prometheus::Family<prometheus::Counter>&requests_, &deadlines_;
  prometheus::Counter& counter(const char* name, const char* help);
  prometheus::Gauge& gauge(const char* name, const char* help);
  prometheus::Histogram& histogram(const char* name, const char* help, double first);

 public:
  prometheus::Gauge &vram_bytes, &memory_bytes, &bodies_bytes, &queue_depth, &kv_pages_used, &kv_pages_total,
      &cache_memory_bytes, &cache_disk_bytes, &uptime_seconds, &jobs, &loop_turn_ms_max;
  prometheus::Counter &requests_started, &tokens_in, &tokens_generated, &tokens_out, &prefix_hits, &prefix_tokens,
      &rests, &tokens_drafted, &tokens_accepted, &cache_memory_hits, &cache_disk_hits, &cache_written, &cache_skipped,
      &cache_damaged, &oom, &narration_dropped, &audit_dropped, &loop_turns_slow;
  prometheus::Histogram &inference_ms, &first_token_ms, &inter_token_ms, &decode_ms, &queue_wait_ms, &prefill_rate,
      &decode_rate, &cancellation_ms, &disconnect_ms, &oom_recovery_ms, &deadline_exceeded_by_ms;
};

}  // namespace llorch::worker
