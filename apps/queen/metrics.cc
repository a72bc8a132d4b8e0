#include "queen/metrics.h"

namespace llorch::queen {

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
