// What every daemon with a JobDesk counts of its jobs, by the names of O-20.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>

#include "security/audit.h"
#include "service/meter.h"

namespace llorch::service {

class JobMeter {
 public:
  /// `reasons`: for which this daemon ends work at a deadline; they are counted from zero on.
  JobMeter(Meter& meter, std::string daemon, std::initializer_list<const char*> reasons)
      : deadlines_(meter.counters("deadline_enforced_total", "Requests and operations ended by their deadline")),
        daemon_(std::move(daemon)),
        deadline_exceeded_by_ms(histogram(meter, "deadline_exceeded_by_ms", "How late requests were refused")),
        cancellation_ms(
            histogram(meter, "cancellation_latency_ms", "From a cancellation until its work here has stopped")),
        disconnect_ms(histogram(meter, "client_disconnect_detection_ms",
                                "From seeing that a stream's reader has left until its job has ended")),
        narration_dropped(meter.counters("narration_dropped_total", "Narration events dropped by full logs").with({})),
        audit_dropped_(meter.counters("audit_dropped_total", "Audit events dropped by a full queue").with({})),
        loop_turn_ms_max_(meter.gauges("loop_turn_ms_max", kLoopTurnHelp).with({})),
        loop_turns_slow_(meter.counters("loop_turns_slow_total", kLoopTurnsSlowHelp).with({})) {
    for (const char* reason : reasons) count(reason);
  }
  void deadline(const std::string& reason) { count(reason).Increment(); }
  /// Before the text is read.
  void refresh(const security::AuditLog* audit, const net::EventLoop& loop) {
    if (audit) audit_dropped_.Increment(std::max(0.0, static_cast<double>(audit->dropped()) - audit_dropped_.Value()));
    measure_turns(loop, loop_turn_ms_max_, loop_turns_slow_);
  }

 private:
  prometheus::Counter& count(const std::string& reason) {
    return deadlines_.with({{"component", daemon_}, {"reason", reason}});
  }
  static prometheus::Histogram& histogram(Meter& meter, const char* name, const char* help) {
    return meter.histogram(name, help, {0.1, 1, 5, 10, 50, 100, 500, 1000, 5000, 60'000});
  }
  Counters deadlines_;
  std::string daemon_;

 public:
  prometheus::Histogram &deadline_exceeded_by_ms, &cancellation_ms, &disconnect_ms;
  prometheus::Counter& narration_dropped;

 private:
  prometheus::Counter& audit_dropped_;
  prometheus::Gauge& loop_turn_ms_max_;
  prometheus::Counter& loop_turns_slow_;
};

}  // namespace llorch::service
