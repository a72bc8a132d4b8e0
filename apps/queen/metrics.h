// What the queen counts (O-20).
#pragma once

#include <string>

#include "queen/hive_table.h"
#include "service/job_meter.h"

namespace llorch::queen {

/// Figures of the workers of all hives, as Prometheus text: as many lines as there are workers now.
[[nodiscard]] std::string worker_figures_text(const HiveTable& hives);

/// Of the fleet's store (fleet.h); of a queen without one nothing is counted.
struct StoreMetrics {
  explicit StoreMetrics(service::Meter& meter);
  prometheus::Histogram& latency_ms;
  prometheus::Counter &failures, &lease_losses;
  prometheus::Gauge &watch_lag_s, &leads, &queens;
};

class Metrics {
  service::Meter meter_{"queen"};
  service::Gauges depth_;
  service::Counters enqueued_, dispatched_, requests_;
  prometheus::Counter& requests_started_;

 public:
  Metrics();
  [[nodiscard]] std::string text() const { return meter_.text(); }
  void queue(const std::string& priority, int depth) { depth_.with({{"priority", priority}}).Set(depth); }
  void enqueued(const std::string& outcome) { enqueued_.with({{"outcome", outcome}}).Increment(); }
  /// Of requests that were let in, by how they ended: see OpenRequest.
  void request_started() { requests_started_.Increment(); }
  void request_ended(const std::string& outcome) { requests_.with({{"outcome", outcome}}).Increment(); }
  void dispatched(const std::string& outcome) { dispatched_.with({{"outcome", outcome}}).Increment(); }
  service::JobMeter jobs{meter_, "queen", {"before_compute", "queued", "operation"}};
  prometheus::Counter &started, &canceled, &rejected, &backpressure, &evictions, &fed;
  prometheus::Gauge &connections, &hives_online, &bodies_bytes;
  prometheus::Histogram& scheduling_ms;
  StoreMetrics store{meter_};
};

}  // namespace llorch::queen
