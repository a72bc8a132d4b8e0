// Where a request should run: a pure function of what is known, so that equal state gives equal choices.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llorch::queen {

struct WorkerView {
  std::string id, model, device, kind, state;  // state: starting, ready, busy, stopping
  int inflight = 0, slots = 0;                 // requests that the queen has there, and may have
};

struct DeviceView {
  std::string id, type;  // "cpu" or "gpu"
  std::int64_t memory_free = 0;
  std::string problem;  // why nothing can run there; empty: it can
  std::string refusal;  // why it has said no to this request before; empty: it has not
};

struct HiveView {
  std::string id;
  bool known = false;         // its capabilities have come
  bool silent = false;        // it did not answer: nothing is sent to it before its next heartbeat
  bool provisioning = false;  // a worker for the wanted model is being made there
  bool refused = false;       // the request may not have a worker made there
  std::string refusal;        // why
  std::vector<DeviceView> devices;
  std::vector<WorkerView> workers;
};

/// What a request needs of a worker.
struct Requirements {
  std::string model;                    // its one spelling
  std::string hive, worker_id, device;  // empty: any; device: as colony::parse_device() gives it
  std::string kind;                     // of worker; empty: any, and those preferred before others
  std::string made_on = {};             // the device for a worker that must be made, where `device` names none
};

struct Decision {
  enum class Kind { kUse, kProvision, kWait, kNone };
  Kind kind = Kind::kNone;
  std::string hive, worker_id, device, worker_kind;
  std::string why;  // for people
};

/// Requests that wait: of those that want the same, interactive before batch, each in order of arrival. What is
/// asked of one costs the same however many wait; by_model() and has() look at each model once.
class WaitingLine {
 public:
  struct Entry {
    std::string model;
    bool batch = false;
    std::function<void()> drop;      // its request ends, and leaves
    std::function<void()> on_first;  // called when those before it have left
    std::uint64_t number = 0;        // the line's own: order of arrival
  };
  using Place = std::list<Entry>::iterator;
  Place join(Entry entry);
  Place join(std::string model, bool batch) { return join({std::move(model), batch, {}, {}}); }
  void leave(Place place);
  [[nodiscard]] bool first(Place place) const;
  [[nodiscard]] bool has(const std::string& key) const { return lanes_.contains(key); }
  [[nodiscard]] int count() const { return count(false) + count(true); }
  [[nodiscard]] int count(bool batch) const { return counts_[batch]; }
  [[nodiscard]] std::map<std::string, int> by_model() const;
  /// Who goes when the line is full and one more comes: the batch request that has waited longest; for an interactive
  /// newcomer, when there is none, the interactive one. Null: the newcomer does (Q-15, drop-lru).
  [[nodiscard]] const Entry* least_wanted(bool newcomer_batch) const;

 private:
  struct Lane {                   // of one model; never empty
    std::list<Entry> entries[2];  // batch in the second
    [[nodiscard]] const Entry& first() const { return entries[entries[0].empty() ? 1 : 0].front(); }
  };
  std::map<std::string, Lane> lanes_;
  int counts_[2] = {0, 0};
  std::uint64_t joined_ = 0;
};

/// A device of a hive, as a key: what a request was refused there concerns no other device.
[[nodiscard]] inline std::string place_key(const std::string& hive, const std::string& device) {
  return hive + "/" + device;
}
/// The same, for people: on machines without GPUs the hive says enough.
[[nodiscard]] inline std::string place_name(const std::string& hive, const std::string& device) {
  return device == "cpu" ? hive : device + " of " + hive;
}

/// What would help a long line, for people: advice only, it decides nothing. `waiting`: requests by model.
[[nodiscard]] std::vector<std::string> advise(const std::map<std::string, int>& waiting,
                                              const std::vector<HiveView>& hives);

/// Hives that are online, in a fixed order. `preferred`: the kind of worker that serves, and is made, on CPUs where the
/// request names none.
[[nodiscard]] Decision decide(const std::vector<HiveView>& hives, const Requirements& wanted,
                              std::string_view preferred = "cpu");

}  // namespace llorch::queen
