// Where a request should run: a pure function of what is known, so that equal state gives equal choices.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <vector>

namespace llorch::queen {

struct WorkerView {
  std::string id, model, device, kind, state;  // state: starting, ready, busy, stopping
  int inflight = 0, slots = 0;                 // requests that the queen has there, and may have
};

struct DeviceView {
  std::string id, type;  // "cpu" or "gpu"
  std::int64_t memory_free = 0;
};

struct HiveView {
  std::string id;
  bool known = false;         // its capabilities have come
  bool provisioning = false;  // a worker for the wished model is being made there
  bool refused = false;       // it has said no to this request before
  std::string refusal;        // why
  std::vector<DeviceView> devices;
  std::vector<WorkerView> workers;
};

struct Wish {
  std::string model;                    // its one spelling
  std::string hive, worker_id, device;  // empty: any
};

struct Decision {
  enum class Kind { kUse, kProvision, kWait, kNone };
  Kind kind = Kind::kNone;
  std::string hive, worker_id, device, worker_kind;
  std::string why;  // for people
};

/// Requests that wait: of those with the same wish, interactive before batch, each in order of arrival.
class WaitingLine {
 public:
  struct Entry {
    std::string model;
    bool batch = false;
  };
  using Place = std::list<Entry>::iterator;
  Place join(std::string model, bool batch) { return entries_.insert(entries_.end(), {std::move(model), batch}); }
  void leave(Place place) { entries_.erase(place); }
  [[nodiscard]] bool first(Place place) const;
  [[nodiscard]] int count() const { return static_cast<int>(entries_.size()); }
  [[nodiscard]] int count(bool batch) const;

 private:
  std::list<Entry> entries_;
};

/// Whether there is a kind of worker for it.
[[nodiscard]] inline bool usable(const DeviceView& d) { return d.type == "cpu"; }

/// Hives that are online, in a fixed order.
[[nodiscard]] Decision decide(const std::vector<HiveView>& hives, const Wish& wish);

}  // namespace llorch::queen
