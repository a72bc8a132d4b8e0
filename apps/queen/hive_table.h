// The hives that are, or were, alive: what each said last, what runs on its workers, and who is being started or
// stopped there. Gives decisions their view.
//
// A hive that does not answer is `silent`: it gets no new workers and nothing is sent to it, until its next heartbeat.
// Only missed heartbeats make it offline. Threads: the event loop's.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "colony/facts.h"
#include "net/event_loop.h"
#include "queen/directory.h"
#include "queen/model_resolver.h"
#include "queen/room.h"
#include "service/remote.h"

namespace llorch::queen {

/// What is known of one hive.
struct HiveEntry {
  using Time = net::Clock::time_point;
  std::string id, url, version;
  std::string via;  // the queen that hears it, where that is another one; empty: it beats here, or did last
  service::Peer peer;
  std::vector<colony::WorkerFacts> workers;
  colony::Capabilities capabilities;
  boost::json::object node;
  std::string revision, asked_revision, told_revision;  // of its capabilities: known, asked for, in its last beat
  Time seen, silent_since;
  std::chrono::seconds clock_skew{0};  // its clock against ours, where it is off by more than 30 s
  bool known = false, learning = false, silent = false, probing = false;
};

/// Whether it can use the model without fetching it.
[[nodiscard]] bool has_model(const HiveEntry& h, const std::string& ref);

/// A place at a worker, held while a request runs there.
class Seat {
 public:
  Seat(std::shared_ptr<int> inflight, std::shared_ptr<std::int64_t> tokens, std::function<void()> on_free)
      : inflight_(std::move(inflight)), tokens_(std::move(tokens)), on_free_(std::move(on_free)) {
    ++*inflight_;
  }
  ~Seat() {
    --*inflight_;
    on_free_();
  }
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;
  /// Of the worker, since it is known: whoever relays its answers adds to it.
  [[nodiscard]] const std::shared_ptr<std::int64_t>& tokens() const { return tokens_; }

 private:
  std::shared_ptr<int> inflight_;
  std::shared_ptr<std::int64_t> tokens_;
  std::function<void()> on_free_;
};

struct HiveTableOptions {
  std::chrono::seconds offline_after{90};
  int worker_slots = 8;
  std::function<net::Clock::time_point()> now = [] { return net::Clock::now(); };
};

class HiveTable {
 public:
  explicit HiveTable(HiveTableOptions options) : options_(std::move(options)) {}

  struct BeatEffect {
    HiveEntry* hive;
    bool added, came_online, answers_again;
    bool stale;  // its capabilities must be asked for
  };
  /// A heartbeat; `via`: another queen heard it, and is believed. Errors: kResourceInUse when the id belongs to a hive
  /// that is alive at another address.
  [[nodiscard]] Result<BeatEffect> beat(colony::HiveBeat beat, service::Peer peer, const std::string& via = {});
  /// The queen that heard it does so no longer: it is alive for as long as after a heartbeat.
  void end_via(const std::string& id);
  /// Decisions follow what has been changed in an entry.
  void update(const HiveEntry& h);
  void erase(const std::string& id);
  /// It did not answer. False: that was known, or it is not here any more.
  bool mark_silent(const std::string& id);

  [[nodiscard]] const std::map<std::string, HiveEntry>& all() const { return hives_; }
  /// Null where it is not, or no longer: a hive can be removed whenever a procedure waits.
  [[nodiscard]] HiveEntry* find(const std::string& id);
  [[nodiscard]] const HiveEntry* find(const std::string& id) const;
  [[nodiscard]] std::vector<const HiveEntry*> online() const;
  [[nodiscard]] bool online(const std::string& id) const;
  /// Online and not silent.
  [[nodiscard]] std::vector<const HiveEntry*> responsive() const;
  [[nodiscard]] ModelResolver::Presence presence(const std::string& ref) const;

  /// Worker ids are a hive's own: without a hive, those of all.
  void forget_worker(const std::string& hive_id, const std::string& worker_id);
  [[nodiscard]] std::shared_ptr<int> inflight(const std::string& hive, const std::string& worker) const;
  [[nodiscard]] int inflight_of(const std::string& hive) const;
  /// Tokens that a worker has answered through this queen; 0 where none has come.
  [[nodiscard]] std::int64_t tokens(const std::string& hive, const std::string& worker) const;
  /// `on_free` is called when it is given up. Null: the worker is gone.
  [[nodiscard]] std::shared_ptr<Seat> take_seat(const std::string& hive, const std::string& worker,
                                                std::function<void()> on_free);
  /// A worker that is being stopped gets no further requests.
  void set_leaving(const std::string& hive, const std::string& worker, bool leaving);
  [[nodiscard]] bool is_leaving(const std::string& hive, const std::string& worker) const;
  [[nodiscard]] bool any_leaving(const std::string& hive) const;
  /// A worker for the model is being made there, or is kept for whoever had it made.
  void set_provisioning(const std::string& hive, const std::string& model, bool provisioning);

  /// Workers of a hive that is online, with what their end gives back.
  [[nodiscard]] std::vector<Evictable> workers_of(const std::string& hive, const std::set<std::string>& pinned) const;
  struct Restrictions {
    const std::map<std::string, std::string>* refusals = nullptr;  // by place_key(): why not, of this request
    bool only_where_present = false;                               // the request may not have the model fetched
  };
  [[nodiscard]] std::vector<HiveView> view(const Requirements& wanted, const Restrictions& r) const;
  [[nodiscard]] std::vector<HiveView> view_all() const { return directory_.all(); }

 private:
  [[nodiscard]] bool live(const HiveEntry& h) const {
    return !h.via.empty() || options_.now() - h.seen < options_.offline_after;
  }
  HiveTableOptions options_;
  std::map<std::string, HiveEntry> hives_;
  Directory directory_;
  mutable std::map<std::string, std::shared_ptr<int>> inflight_;  // by "hive/worker"
  std::set<std::string> leaving_;                                 // "hive/worker"
  std::map<std::string, int> provisioning_;                       // "hive|model": how many
  std::set<std::string> provisioning_keys_;
  std::map<std::string, std::int64_t> used_;                     // "hive/worker": when a request ended there last, ms
  std::map<std::string, std::shared_ptr<std::int64_t>> tokens_;  // "hive/worker": answered so far
};

/// While it lives, the hive makes a worker for the model.
class ProvisioningMark {
 public:
  ProvisioningMark(HiveTable& table, std::string hive, std::string model, std::function<void()> on_end)
      : table_(table), hive_(std::move(hive)), model_(std::move(model)), on_end_(std::move(on_end)) {
    table_.set_provisioning(hive_, model_, true);
  }
  ~ProvisioningMark() {
    table_.set_provisioning(hive_, model_, false);
    on_end_();
  }
  ProvisioningMark(const ProvisioningMark&) = delete;
  ProvisioningMark& operator=(const ProvisioningMark&) = delete;

 private:
  HiveTable& table_;
  std::string hive_, model_;
  std::function<void()> on_end_;
};

}  // namespace llorch::queen
