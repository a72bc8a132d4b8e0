// What a hive counts (O-20).
#pragma once

#include <string>

#include "service/job_meter.h"

namespace llorch::hive {

class Metrics {
 public:
  Metrics();
  [[nodiscard]] std::string text() const { return meter_.text(); }
  void workers(const std::string& status, std::ptrdiff_t count) {
    workers_.with({{"status", status}}).Set(static_cast<double>(count));
  }
  void start(const std::string& outcome) { starts_.with({{"outcome", outcome}}).Increment(); }
  void stop(const std::string& reason) { stops_.with({{"reason", reason}}).Increment(); }
  void download(const std::string& outcome) { downloads_.with({{"outcome", outcome}}).Increment(); }
  void gpu(const std::string& id, double total, double used);
  void gpus(int count) { gpus_.with({}).Set(count); }

 private:
  service::Meter meter_{"hive"};
  service::Gauges gpus_, gpu_total_, gpu_used_, workers_;
  service::Counters starts_, stops_, downloads_;

 public:
  service::JobMeter jobs{meter_, "hive", {"operation"}};
};

}  // namespace llorch::hive
