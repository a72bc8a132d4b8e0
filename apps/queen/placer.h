// How a request finds a worker (Q-05, steps 3 to 10): its place in the line, the decision, and the making of a worker
// where there is none.
//
// Two lines: one for each model (interactive before batch, each in order), and one for each hive whose memory is short.
// Who is first in the second may stop workers there, by a plan that is known to help (room.h), and keeps its turn until
// its own worker has its memory; so models that do not fit together take turns, and nobody fails while waiting can end.
// Threads: the event loop's.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "queen/hive_calls.h"
#include "queen/local_hive.h"
#include "queen/metrics.h"
#include "queen/policy.h"
#include "queen/settings_table.h"

namespace llorch::queen {

/// Where a request runs.
struct Placed {
  std::string hive_id, worker_id, model;  // model: the name that the worker knows
  service::Peer worker;
  std::shared_ptr<Seat> seat;
};

/// Why not, by place_key().
using Reasons = std::map<std::string, std::string>;
/// Is told what happens while a request is being placed.
using Report = std::function<void(std::string_view action, const std::string& human)>;

/// A request that needs a worker.
struct Placement {
  Requirements wanted;
  colony::ModelRef ref;
  colony::ModelAccess access;
  bool batch = false;
  Report report;
  Relay relay;
  std::string correlation_id;
};
using PlacementPtr = std::shared_ptr<Placement>;
/// The same, but what is reported again, with other figures at most, is left out: whoever waits looks again and again.
[[nodiscard]] PlacementPtr report_once(const PlacementPtr& p);

struct PlacerOptions {
  bool evict = true;  // workers stop to make room for other models
  std::chrono::seconds hive_start_timeout{30};
  /// A hive of our own that has been silent for so long is replaced.
  std::chrono::seconds replace_silent_after{10};
  std::string worker_kind = "cpu";  // where a request names none
};

class Placer {
 public:
  struct Uses {
    HiveCalls& calls;
    LocalHive& local;
    Metrics& metrics;
    /// Hives of the catalog that are not online, by name.
    std::function<std::vector<std::string>()> offline;
    /// Whether this machine's hive may be started.
    std::function<bool()> local_wanted;
    /// Asks a hive for its capabilities; `changed` tells when they are there.
    std::function<void(const std::string& hive)> refresh;
    /// What is said of a named hive that is offline.
    std::function<std::string(const std::string& hive)> why_offline;
  };
  Placer(Uses uses, PlacerOptions options) : uses_(std::move(uses)), options_(options) {}

  /// Finds or makes a worker for a request, and a seat there. Errors: kNoWorkersAvailable, kModelNotFound, those of
  /// hives and of the flow.
  [[nodiscard]] service::Step<Placed> place(const service::FlowPtr& flow, PlacementPtr p);
  /// Where no hive answers, or this machine's, if `p` names it: starts that, and waits until its capabilities are
  /// known.
  [[nodiscard]] service::Step<bool> bring_up_hive(const service::FlowPtr& flow, PlacementPtr p);
  /// Stops an idle worker that no request asked to go; `done`, if any, when it is gone.
  void stop_idle(const Evictable& worker, std::function<void()> done = {});

  /// A worker gives no sign of life: it gets no further requests, and its hive is told to end it.
  void stop_silent(const std::string& hive, const std::string& worker);

  [[nodiscard]] WaitingLine& line() { return line_; }
  [[nodiscard]] const WaitingLine& line() const { return line_; }
  /// By hive, in place of a model: requests that wait for memory there.
  [[nodiscard]] WaitingLine& room_line() { return room_line_; }
  /// How models are served, wherever their workers run.
  [[nodiscard]] SettingsTable& settings() { return settings_; }
  [[nodiscard]] const SettingsTable& settings() const { return settings_; }
  void pin(const std::string& model, bool pinned) {
    if (pinned)
      pinned_.insert(model);
    else
      pinned_.erase(model);
  }
  [[nodiscard]] const std::set<std::string>& pinned() const { return pinned_; }
  [[nodiscard]] Uses& uses() { return uses_; }
  [[nodiscard]] HiveTable& hives() { return uses_.calls.hives(); }
  [[nodiscard]] service::Signal& changed() { return uses_.calls.changed(); }
  [[nodiscard]] const PlacerOptions& options() const { return options_; }

 private:
  void stop(const Evictable& worker, std::function<void()> done);
  Uses uses_;
  PlacerOptions options_;
  WaitingLine line_, room_line_;
  std::set<std::string> pinned_;  // models whose workers never make room
  SettingsTable settings_;
};

/// A place in a line, given up when it goes.
class LinePlace {
 public:
  LinePlace(WaitingLine& line, service::Signal& changed, WaitingLine::Entry entry)
      : line_(line), changed_(changed), at_(line.join(std::move(entry))) {}
  ~LinePlace() {
    line_.leave(at_);
    changed_.notify();
  }
  LinePlace(const LinePlace&) = delete;
  LinePlace& operator=(const LinePlace&) = delete;
  [[nodiscard]] bool first() const { return line_.first(at_); }
  [[nodiscard]] const std::string& key() const { return at_->model; }

 private:
  WaitingLine& line_;
  service::Signal& changed_;
  WaitingLine::Place at_;
};

/// What one attempt to make a worker came to.
struct Provisioned {
  std::optional<Error> error;           // nothing: the worker is awake
  bool had_room = false;                // the hive had said yes before it said no: another was faster
  std::optional<ShortOfRoom> short_of;  // with kInsufficientMemory: the hive's own figures, without workers
};
/// Everything that a hive needs before it can start a worker, then the worker. `on_promised`: its memory is promised
/// from now on.
[[nodiscard]] service::Step<Provisioned> provision(const service::FlowPtr& flow, Placer& placer, PlacementPtr p,
                                                   const Decision& d, std::function<void()> on_promised);
/// Stops these, each when its requests have ended.
[[nodiscard]] service::Step<bool> evict(const service::FlowPtr& flow, Placer& placer, PlacementPtr p,
                                        std::vector<Evictable> victims);

}  // namespace llorch::queen
