// Where a request should run: a pure function of what is known, so that equal state gives equal choices.
#pragma once

#include <cstdint>
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

/// Hives that are online, in a fixed order.
[[nodiscard]] Decision decide(const std::vector<HiveView>& hives, const Wish& wish);

}  // namespace llorch::queen
