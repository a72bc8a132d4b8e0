#include "worker/metrics.h"

#include <prometheus/text_serializer.h>

#include "service/meter.h"
#include "worker/backend.h"

namespace llorch::worker {

prometheus::Counter& Metrics::counter(const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(*registry_).Add({});
}
prometheus::Gauge& Metrics::gauge(const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_).Add({});
}
/// 14 buckets, each twice the one before.
prometheus::Histogram& Metrics::histogram(const char* name, const char* help, double first) {
  prometheus::Histogram::BucketBoundaries bounds;
  for (int i = 0; i < 14; ++i, first *= 2) bounds.push_back(first);
  return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry_).Add({}, bounds);
}

Metrics::Metrics()
    : requests_(prometheus::BuildCounter()
                    .Name("llorch_worker_requests_total")
                    .Help("Generations by how they ended")
                    .Register(*registry_)),
      deadlines_(prometheus::BuildCounter()
                     .Name("llorch_worker_deadline_enforced_total")
                     .Help("Requests ended by their deadline")
                     .Register(*registry_)),
      vram_bytes(gauge("llorch_worker_vram_bytes", "Device memory in use")),
      memory_bytes(gauge("llorch_worker_memory_bytes", "Resident memory")),
      bodies_bytes(gauge("llorch_worker_bodies_bytes", "Bodies of requests, and what waits that was made of them")),
      queue_depth(gauge("llorch_worker_queue_depth", "Generations that wait")),
      kv_pages_used(gauge("llorch_worker_kv_pages_used", "KV pages held by sequences")),
      kv_pages_total(gauge("llorch_worker_kv_pages_total", "KV pages there are")),
      cache_memory_bytes(gauge("llorch_worker_cache_memory_bytes", "Cached contents in --cache-ram-mb")),
      cache_disk_bytes(gauge("llorch_worker_cache_disk_bytes", "Cached contents in --cache-dir, of all models")),
      uptime_seconds(gauge("llorch_worker_uptime_seconds", "Since the process started")),
      jobs(gauge("llorch_worker_jobs", "Jobs kept, finished ones included")),
      loop_turn_ms_max(gauge("llorch_worker_loop_turn_ms_max", service::kLoopTurnHelp)),
      requests_started(
          counter("llorch_worker_requests_started_total",
                  "Requests that began: those that completed, failed or were cancelled, and those under way")),
      tokens_in(counter("llorch_worker_tokens_in_total", "Prompt tokens")),
      tokens_generated(counter("llorch_worker_tokens_generated_total", "Tokens generated")),
      tokens_out(counter("llorch_worker_tokens_out_total", "Tokens generated")),
      prefix_hits(counter("llorch_worker_prefix_cache_hits_total", "Requests that found a cached beginning")),
      prefix_tokens(counter("llorch_worker_prefix_cache_tokens_total", "Prompt tokens taken from the cache")),
      rests(counter("llorch_worker_requests_rested_total", "Times that a request gave its KV pages to an older one")),
      tokens_drafted(counter("llorch_worker_tokens_drafted_total", "Tokens that were guessed and computed along")),
      tokens_accepted(counter("llorch_worker_tokens_accepted_total", "Guessed tokens that the text went on with")),
      cache_memory_hits(counter("llorch_worker_cache_memory_hits_total", "Pages and checkpoints found in memory")),
      cache_disk_hits(counter("llorch_worker_cache_disk_hits_total", "Pages and checkpoints found on disk")),
      cache_written(counter("llorch_worker_cache_disk_written_total", "Pages and checkpoints written to disk")),
      cache_skipped(counter("llorch_worker_cache_skipped_total", "Pages and checkpoints that could not be kept")),
      cache_damaged(counter("llorch_worker_cache_damaged_total", "Cached contents that failed their check")),
      oom(counter("llorch_worker_oom_total", "Requests that ran out of KV memory")),
      narration_dropped(counter("llorch_worker_narration_dropped_total", "Narration events dropped by full logs")),
      audit_dropped(counter("llorch_worker_audit_dropped_total", "Audit events dropped by a full queue")),
      loop_turns_slow(counter("llorch_worker_loop_turns_slow_total", service::kLoopTurnsSlowHelp)),
      inference_ms(histogram("llorch_worker_inference_duration_ms", "From acceptance to the last event", 1)),
      first_token_ms(histogram("llorch_worker_latency_first_token_ms", "From acceptance to the first token", 1)),
      inter_token_ms(histogram("llorch_worker_inter_token_ms", "Between tokens of one sequence", 0.25)),
      decode_ms(histogram("llorch_worker_latency_decode_ms", "From the first token to the last", 1)),
      queue_wait_ms(histogram("llorch_worker_queue_wait_ms", "From acceptance to the first step", 0.25)),
      prefill_rate(histogram("llorch_worker_prefill_tokens_per_second", "Prompt tokens computed per second", 1)),
      decode_rate(histogram("llorch_worker_decode_tokens_per_second", "Tokens generated per second by a sequence", 1)),
      cancellation_ms(histogram("llorch_worker_cancellation_latency_ms",
                                "From the request to cancel to the engine's answer", 0.25)),
      disconnect_ms(histogram("llorch_worker_client_disconnect_detection_ms",
                              "From a disconnect seen to its job cancelled", 0.25)),
      oom_recovery_ms(
          histogram("llorch_worker_oom_recovery_ms", "From a KV OOM to the next token of any request", 0.25)),
      deadline_exceeded_by_ms(histogram("llorch_worker_deadline_exceeded_by_ms", "How late requests were refused", 1)) {
  prometheus::BuildGauge()
      .Name("llorch_worker_build_info")
      .Help("Version and backend")
      .Register(*registry_)
      .Add({{"version", LLORCH_VERSION}, {"backend", backend().kind}})
      .Set(1);
}

std::string Metrics::text() const { return prometheus::TextSerializer().Serialize(registry_->Collect()); }

}  // namespace llorch::worker
