// A daemon's metrics: families of one prefix, and the text that Prometheus reads (O-20).
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>
#include <sstream>
#include <string>

#include "net/event_loop.h"

namespace llorch::service {

/// What every daemon says of its event loop (net/turn_watch.h).
inline constexpr const char* kLoopTurnHelp = "The longest turn of the event loop so far";
inline constexpr const char* kLoopTurnsSlowHelp = "Turns of the event loop that took more than 20 ms";
inline void measure_turns(const net::EventLoop& loop, prometheus::Gauge& longest_ms, prometheus::Counter& slow) {
  const net::EventLoop::Turns turns = loop.turns();
  longest_ms.Set(static_cast<double>(turns.longest.count()) / 1000);
  slow.Increment(static_cast<double>(turns.slow) - slow.Value());
}

using Labels = std::map<std::string, std::string>;

/// A family; with() gives the member of some labels. Labels come from small fixed sets only.
template<class Metric>
class Members {
 public:
  explicit Members(prometheus::Family<Metric>& family) : family_(&family) {}
  Metric& with(const Labels& labels) { return family_->Add(labels); }

 private:
  prometheus::Family<Metric>* family_;
};
using Gauges = Members<prometheus::Gauge>;
using Counters = Members<prometheus::Counter>;

class Meter {
 public:
  /// One that says nothing of the daemon itself.
  struct Bare {};
  Meter(const std::string& daemon, Bare)
      : prefix_("llorch_" + daemon + "_"), registry_(std::make_shared<prometheus::Registry>()) {}
  /// `daemon`: "hive", "queen"; names become llorch_<daemon>_<name>.
  explicit Meter(const std::string& daemon) : Meter(daemon, Bare{}) {
    gauges("build_info", "1, with the version as label")
        .with({{"version", LLORCH_SERVICE_VERSION}, {"backend", "none"}})
        .Set(1);
  }
  Gauges gauges(const std::string& name, const std::string& help) {
    return Gauges(prometheus::BuildGauge().Name(prefix_ + name).Help(help).Register(*registry_));
  }
  Counters counters(const std::string& name, const std::string& help) {
    return Counters(prometheus::BuildCounter().Name(prefix_ + name).Help(help).Register(*registry_));
  }
  prometheus::Histogram& histogram(const std::string& name, const std::string& help,
                                   const std::vector<double>& bounds) {
    return prometheus::BuildHistogram().Name(prefix_ + name).Help(help).Register(*registry_).Add({}, bounds);
  }
  [[nodiscard]] std::string text() const {
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, registry_->Collect());
    return out.str();
  }

 private:
  std::string prefix_;
  std::shared_ptr<prometheus::Registry> registry_;
};

}  // namespace llorch::service
