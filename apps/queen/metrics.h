// What the queen counts (O-20).
#pragma once

#include <string>

#include "service/meter.h"

namespace llorch::queen {

class Metrics {
  service::Meter meter_{"queen"};
  service::Gauges depth_;
  service::Counters enqueued_, dispatched_, deadlines_;

 public:
  Metrics();
  [[nodiscard]] std::string text() const { return meter_.text(); }
  void queue(const std::string& priority, int depth) { depth_.with({{"priority", priority}}).Set(depth); }
  void enqueued(const std::string& outcome) { enqueued_.with({{"outcome", outcome}}).Increment(); }
  void dispatched(const std::string& outcome) { dispatched_.with({{"outcome", outcome}}).Increment(); }
  void deadline(const std::string& reason) {
    deadlines_.with({{"component", "queen"}, {"reason", reason}}).Increment();
  }
  prometheus::Counter &started, &canceled, &rejected, &backpressure, &evictions;
  prometheus::Gauge &connections, &hives_online;
  prometheus::Histogram &scheduling_ms, &deadline_exceeded_by_ms;
};

}  // namespace llorch::queen
