// The queen: takes every decision. Knows hives and workers, places requests, relays their streams.
//
// Registries are memory, catalogs SQLite on the background thread. Threads: the event loop's.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/state_lock.h"
#include "colony/facts.h"
#include "colony/model_ref.h"
#include "queen/catalog.h"
#include "queen/directory.h"
#include "queen/membership.h"
#include "queen/metrics.h"
#include "queen/policy.h"
#include "service/background.h"
#include "service/broadcast.h"
#include "service/front.h"
#include "service/job_desk.h"
#include "service/process.h"
#include "service/remote.h"

namespace llorch::queen {

struct QueenOptions : service::FrontOptions {
  QueenOptions() { first_port = last_port = 8500; }
  std::string data_dir, hive_program;
  int hive_port = 8600, worker_port = 8601, admission_capacity = 100, heartbeat_interval_s = 30, worker_slots = 8,
      idle_stop_s = 300, hive_start_timeout_s = 30, missed_beats = 3;
  std::string admission_policy = "reject-new", eviction_policy = "lru";
  std::string mode;             // "one-machine": loopback without keys; "lab": with keys; empty: as the other flags say
  double vram_threshold = 0.9;  // above this share of a device's memory, idle workers go
  std::vector<std::string> pinned;  // models whose workers are never stopped to make room
  int default_deadline_ms = 0, max_deadline_ms = 86'400'000, cancel_deadline_ms = 5000;
  bool retry_enabled = true, retry_jitter = true;
  int retry_attempts = 5, retry_first_ms = 1000, retry_max_ms = 60'000;
  double retry_multiplier = 2;
  bool optimizer_enabled = true;
  int optimizer_threshold = 10, optimizer_interval_ms = 30'000;
  /// Errors: kInvalidRequest for values that contradict each other.
  [[nodiscard]] Status check() const;
  /// Before try `n` + 1: n from 1.
  [[nodiscard]] std::chrono::milliseconds retry_pause(int n) const;
};

/// A hive that is, or was, alive.
struct HiveEntry {
  std::string id, url, version;
  service::Peer peer;
  std::vector<colony::WorkerFacts> workers;
  colony::Capabilities capabilities;
  boost::json::object node;
  std::string revision, asked_revision, told_revision;  // of its capabilities: known, asked for, in its last beat
  net::Clock::time_point seen;
  std::chrono::seconds clock_skew{0};  // its clock against ours, where it is off by more than 30 s
  bool known = false, learning = false;
};

/// A place at a worker, held while a request runs there.
class Seat {
 public:
  Seat(std::shared_ptr<int> inflight, std::function<void()> on_free)
      : inflight_(std::move(inflight)), on_free_(std::move(on_free)) {
    ++*inflight_;
  }
  ~Seat() {
    --*inflight_;
    on_free_();
  }
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;

 private:
  std::shared_ptr<int> inflight_;
  std::function<void()> on_free_;
};

/// Where a request runs.
struct Placed {
  std::string hive_id, worker_id, model;  // model: the name that the worker knows
  service::Peer worker;
  std::shared_ptr<Seat> seat;
};

/// Why not, by hive.
using Reasons = std::map<std::string, std::string>;
/// Told what happens while a request is being placed.
using Tell = std::function<void(std::string_view action, const std::string& human)>;
/// Events of the hive's jobs, for whoever follows.
using Relay = std::function<void(std::string_view type, const boost::json::object& data)>;

/// When an answer is worthless: a point in time, and the header that tells it to the worker (S-40).
struct Deadline {
  std::string header;
  std::optional<std::chrono::system_clock::time_point> at;
};

struct Placing {
  Wish wish;
  colony::ModelRef ref;
  bool batch = false;
  Tell tell;
  Relay relay;
  std::string correlation_id;
};

class Queen {
 public:
  Queen(net::EventLoop& loop, QueenOptions options);
  ~Queen();
  [[nodiscard]] Status start();
  /// Ends what it started, then itself; `all`: hives that joined on their own too.
  void shutdown(std::string_view why, bool all = false);
  [[nodiscard]] int exit_code() const { return 0; }

  [[nodiscard]] const QueenOptions& options() const { return options_; }
  [[nodiscard]] net::EventLoop& loop() { return loop_; }
  /// Under it lives every procedure of hers.
  [[nodiscard]] service::Gate& gate() { return gate_; }
  [[nodiscard]] service::Front& front() { return front_; }
  [[nodiscard]] service::JobDesk& desk() { return desk_; }
  [[nodiscard]] service::Background& background() { return background_; }
  [[nodiscard]] Metrics& metrics() { return metrics_; }
  /// What is counted, with the states of now.
  [[nodiscard]] std::string metrics_text();
  [[nodiscard]] service::Signal& changed() { return changed_; }
  [[nodiscard]] service::Broadcast& broadcast() { return broadcast_; }
  [[nodiscard]] Catalog& catalog() { return *catalog_; }
  [[nodiscard]] Membership& members() { return members_; }
  /// A hive leaves for good: its key, its row, its entry.
  void forget_hive(const std::string& hive_id);
  [[nodiscard]] bool stopping() const { return stopping_; }
  [[nodiscard]] const std::map<std::string, HiveEntry>& hives() const { return hives_; }
  /// Of the catalog, those that are not online.
  [[nodiscard]] std::vector<const HiveRow*> offline_hives() const;
  /// Null where it is not, or no longer: a hive can be removed whenever a procedure waits.
  [[nodiscard]] HiveEntry* hive(const std::string& id) {
    const auto it = hives_.find(id);
    return it == hives_.end() ? nullptr : &it->second;
  }
  [[nodiscard]] std::vector<const HiveEntry*> online() const;
  [[nodiscard]] bool online(const std::string& hive_id) const;
  /// "" means the local one, or else any. Errors: kHiveNotFound.
  [[nodiscard]] Result<HiveEntry*> find_hive(const std::string& id);
  /// Aliases are resolved here. Errors: kInvalidRequest, kModelNotFound.
  [[nodiscard]] Result<colony::ModelRef> resolve(std::string_view model) const;
  /// A heartbeat of a hive whose addresses are settled; `token` opens it. Errors: kResourceInUse when the id belongs to
  /// another address.
  [[nodiscard]] Status hive_beat(colony::HiveBeat beat, std::string token);
  /// Worker ids are a hive's own: without a hive, those of all.
  void forget_worker(const std::string& hive_id, const std::string& worker_id);
  /// {hives, workers, queue, ...} for people and pages.
  [[nodiscard]] boost::json::object overview() const;
  [[nodiscard]] boost::json::array models() const;

  /// What decisions look at follows the entry.
  void enter(const HiveEntry& h);
  /// Staleness goes by our own clock; what a hive's says is only reported (S-07).
  void check_clock(HiveEntry& h, std::chrono::system_clock::time_point sent);
  /// Asks a hive for its capabilities; changed() tells when they are there.
  void learn(const std::string& hive_id);
  /// QUEUE_FULL and SHUTTING_DOWN are answered here; true when one more may come.
  [[nodiscard]] bool admit(const service::ContextPtr& c, bool batch);
  /// Of a request: its header, its body's deadline_ms (which is taken out), or the default. False when it was refused.
  [[nodiscard]] bool take_deadline(const service::ContextPtr& c, boost::json::object& body, Deadline& d);
  /// Until the request has its worker, who knows the deadline as well.
  [[nodiscard]] net::EventLoop::Timer guard(const service::FlowPtr& flow, const Deadline& d);
  /// Where no hive is online: starts this machine's, and waits until its capabilities are known.
  [[nodiscard]] service::Step<bool> wake(const service::FlowPtr& flow, std::shared_ptr<Placing> p);
  /// Finds or makes a worker for a request, and a seat there. Waits in line: interactive before batch, each in order.
  [[nodiscard]] service::Step<Placed> place(const service::FlowPtr& flow, std::shared_ptr<Placing> p);
  /// Runs an operation on a hive to its end; the events go to `relay`. The value of its result event.
  [[nodiscard]] service::Step<boost::json::value> on_hive(const service::FlowPtr& flow, const service::Peer& hive,
                                                          boost::json::object order, std::shared_ptr<Relay> relay,
                                                          std::string correlation_id);
  /// Has a hive stop a worker, and forgets it; one that has gone already is no error.
  [[nodiscard]] service::Step<bool> stop_worker(const service::FlowPtr& flow, std::string hive_id,
                                                std::string worker_id, std::int64_t pid, std::shared_ptr<Relay> relay,
                                                std::string correlation_id);
  /// What is kept of a job; on_ended writes the last of it.
  [[nodiscard]] JobRow& row(const std::string& job_id) { return rows_[job_id]; }
  void save(JobRow& row);
  [[nodiscard]] bool pinned(const std::string& model) const { return pinned_.contains(model); }
  [[nodiscard]] bool local_hive_wanted() const {
    return catalog_->hives.empty() || catalog_->hives.contains(local_id_);
  }
  /// Starts this machine's hive, once. Errors: kIo.
  [[nodiscard]] Status start_local_hive();
  [[nodiscard]] const std::string& local_id() const { return local_id_; }
  [[nodiscard]] bool hive_process_running() const { return hive_process_ && hive_process_->running(); }
  [[nodiscard]] const std::string& hive_words() const { return hive_words_; }

 private:
  friend class Line;
  friend class Provisioning;
  friend service::Procedure place_work(service::FlowPtr flow, Queen& q, std::shared_ptr<Placing> p,
                                       service::Step<Placed>::Done done);
  void ended(const job::Job& job);
  void mark(JobRow& row);
  void save_marks();
  /// Workers of other models on these hives, which may make room for one of `model`.
  [[nodiscard]] std::vector<Evictable> evictable(const std::map<std::string, std::string>& hives,
                                                 const std::string& model) const;
  friend service::Procedure make_room(service::FlowPtr flow, Queen& q, std::shared_ptr<Placing> p, Evictable victim,
                                      service::Step<bool>::Done done);
  friend service::Procedure relieve(service::FlowPtr flow, Queen& q, std::shared_ptr<Placing> p, Reasons crowded,
                                    service::Step<bool>::Done done);
  /// Errors: kInternal.
  [[nodiscard]] Result<Placed> seat(const Decision& d);
  /// Idle workers of hives whose memory is nearly full.
  void relieve_pressure();
  void optimize();
  friend service::Procedure stop_everything(service::FlowPtr flow, Queen& q, bool all);
  void sweep();
  [[nodiscard]] bool live(const HiveEntry& h) const {
    return net::Clock::now() - h.seen < std::chrono::seconds(options_.missed_beats * options_.heartbeat_interval_s);
  }
  [[nodiscard]] std::vector<HiveView> view(const Wish& wish, const std::map<std::string, std::string>& refusals) const;
  [[nodiscard]] std::shared_ptr<int> inflight(const std::string& hive, const std::string& worker) const;

  net::EventLoop& loop_;
  QueenOptions options_;
  service::Gate gate_{loop_}, ending_{loop_};  // ending_: of what shuts her down, when gate_ is closed
  service::Front front_;
  Metrics metrics_;  // before the desk, which counts to the end
  service::JobDesk desk_;
  std::optional<StateLock> lock_;
  std::unique_ptr<Catalog> catalog_;
  Membership members_;
  std::map<std::string, HiveEntry> hives_;
  Directory directory_;
  mutable std::map<std::string, std::shared_ptr<int>> inflight_;  // by hive and worker
  WaitingLine line_;
  std::set<std::string> provisioning_;        // hive and model
  std::set<std::string> leaving_;             // hive and worker: it makes room, and gets no more requests
  std::map<std::string, std::int64_t> used_;  // hive and worker: when a request ended there last, steady ms
  std::set<std::string> pinned_;
  boost::json::array advice_;
  net::EventLoop::Timer optimizer_timer_;
  std::map<std::string, JobRow> rows_;  // of open jobs
  service::Signal changed_;
  service::Broadcast broadcast_;
  std::unique_ptr<service::Process> hive_process_;
  std::string local_id_, hive_words_;  // what the local hive said last
  net::EventLoop::Timer sweep_timer_;
  net::Clock::time_point started_ = net::Clock::now();
  bool stopping_ = false;
  service::Background background_;  // last: its work uses what is above
};

#define LLORCH_ROUTE(name) void add_route_##name(Queen& queen);
#include "queen_routes.inc"
#undef LLORCH_ROUTE

}  // namespace llorch::queen
