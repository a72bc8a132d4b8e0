#include "queen/metrics.h"

namespace llorch::queen {

std::string worker_figures_text(const HiveTable& hives) {
  struct Figure {
    const char *name, *help, *field;
    double scale = 1;
  };
  constexpr double kMiB = 1 << 20;
  constexpr Figure kFigures[] = {
      {"worker_tokens_in_per_second", "Prompt tokens per second of a worker's last busy seconds", "tokens_in_per_s"},
      {"worker_tokens_out_per_second", "Tokens generated per second of its last busy seconds", "tokens_out_per_s"},
      {"worker_queue_depth", "Requests that wait in it", "queue_depth"},
      {"worker_requests_active", "Requests that the queen has sent it and that have not ended", "inflight"},
      {"worker_resident_bytes", "Memory of its process", "rss_mb", kMiB},
      {"worker_vram_bytes", "Memory of its process on a GPU", "vram_mb", kMiB},
      {"worker_promised_bytes", "Memory that its hive has promised it", "memory_bytes"},
      {"worker_context_tokens", "The longest context of a request", "context"},
      {"worker_uptime_seconds", "Since it was started", "uptime_s"}};
  // A registry of this moment: workers come and go, and labels of those that have gone must not stay.
  service::Meter meter("queen", service::Meter::Bare{});
  for (const Figure& figure : kFigures) {
    service::Gauges gauges = meter.gauges(figure.name, figure.help);
    for (const HiveEntry* h : hives.online())
      for (const auto& w : h->workers) {
        boost::json::object facts = colony::to_json(w);
        facts["inflight"] = *hives.inflight(h->id, w.worker_id);
        const auto* value = facts.if_contains(figure.field);
        if (value && value->is_number())
          gauges.with({{"hive", h->id}, {"worker", w.worker_id}, {"model", w.model_ref}})
              .Set(value->to_number<double>() * figure.scale);
      }
  }
  return meter.text();
}

StoreMetrics::StoreMetrics(service::Meter& meter)
    : latency_ms(meter.histogram("store_latency_ms", "Time of one answer of the fleet's store",
                                 {0.5, 1, 2, 5, 10, 20, 50, 100, 500, 2000, 10'000})),
      failures(
          meter.counters("store_failures_total", "Calls of the fleet's store that failed, but for conflicts").with({})),
      lease_losses(
          meter.counters("store_lease_losses_total", "Times that this queen's lease, by which she is known, ended")
              .with({})),
      watch_lag_s(
          meter.gauges("store_watch_lag_seconds", "For how long changes have not arrived; 0 while they do").with({})),
      leads(meter.gauges("store_leads", "1 while this queen leads the fleet").with({})),
      queens(meter.gauges("store_queens", "Queens of the fleet, herself included").with({})) {}

Metrics::Metrics()
    : depth_(meter_.gauges("queue_depth", "Requests that wait for a worker")),
      enqueued_(meter_.counters("tasks_enqueued_total", "Requests that came, by outcome")),
      dispatched_(meter_.counters("tasks_dispatched_total", "Requests sent to a worker, by outcome")),
      requests_(meter_.counters("requests_total", "Requests that were let in, by how they ended")),
      requests_started_(
          meter_
              .counters(
                  "requests_started_total",
                  "Requests that were let in: those that completed, failed or were cancelled, and those under way")
              .with({})),
      started(meter_.counters("tasks_started_total", "Requests that a worker began").with({})),
      canceled(meter_.counters("tasks_canceled_total", "Requests that were cancelled").with({})),
      rejected(meter_.counters("tasks_rejected_total", "Requests refused by a full queue").with({})),
      backpressure(
          meter_.counters("admission_backpressure_events_total", "Times that a full queue turned somebody away")
              .with({})),
      evictions(meter_.counters("worker_evictions_total", "Workers stopped to make room for another model").with({})),
      fed(meter_.counters("jobs_fed_total", "Jobs of workers that were followed on a stream that carries many")
              .with({})),
      connections(meter_.gauges("worker_connections_active", "Streams of workers that are being relayed").with({})),
      hives_online(meter_.gauges("hives_online", "Hives whose heartbeat is fresh").with({})),
      bodies_bytes(meter_.gauges("bodies_bytes", "Bodies of requests, and what waits that was made of them").with({})),
      scheduling_ms(meter_.histogram("scheduling_latency_ms", "Time of one decision",
                                     {0.01, 0.05, 0.1, 0.2, 0.5, 1, 5, 20, 50})) {}

}  // namespace llorch::queen
