// What the queen asks of hives: every call is watched, and a hive that hangs is marked silent.
//
// Threads: the event loop's. Errors: kHiveNotFound when the hive was removed, kWorkerUnhealthy when it is trusted no
// longer, kOperationTimeout when it is silent, those of its answer.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "queen/hive_table.h"
#include "queen/watch.h"

namespace llorch::queen {

/// Events of the hive's jobs, for whoever follows.
using Relay = std::function<void(std::string_view type, const boost::json::object& data)>;

[[nodiscard]] inline Error removed(const std::string& hive) {
  return {ErrorCode::kHiveNotFound, fmt::format("the hive {} has been removed", hive)};
}

class HiveCalls {
 public:
  /// `changed` is notified when what decisions look at has changed.
  HiveCalls(service::Gate& gate, HiveTable& hives, service::Signal& changed)
      : gate_(gate), hives_(hives), changed_(changed) {}

  [[nodiscard]] service::Step<service::JsonAnswer> ask(const service::FlowPtr& flow, const std::string& hive_id,
                                                       service::Asked request);
  /// Runs an operation to its end; the events go to `relay`. The value of its result event.
  [[nodiscard]] service::Step<boost::json::value> run(const service::FlowPtr& flow, const std::string& hive_id,
                                                      boost::json::object order, std::shared_ptr<Relay> relay,
                                                      std::string correlation_id);
  /// Has a hive stop a worker, and forgets it; one that has gone already is no error.
  [[nodiscard]] service::Step<bool> stop_worker(const service::FlowPtr& flow, const Evictable& worker,
                                                std::shared_ptr<Relay> relay, std::string correlation_id);
  [[nodiscard]] HiveTable& hives() { return hives_; }
  [[nodiscard]] service::Signal& changed() { return changed_; }
  [[nodiscard]] service::Gate& gate() { return gate_; }
  [[nodiscard]] OpenCalls& open() { return open_; }

 private:
  /// Marks it, and says what a call's error is.
  [[nodiscard]] std::function<Error()> on_silence(const std::string& hive_id);
  service::Gate& gate_;
  HiveTable& hives_;
  service::Signal& changed_;
  OpenCalls open_;
};

}  // namespace llorch::queen
