// Where memory for one more worker comes from: a pure function of what hives have said.
//
// Nothing is stopped before it is known that stopping it helps: a plan names the smallest set of workers whose end
// makes room, or says that waiting helps, or that not even an empty machine would do. Workers that load count as memory
// that is promised: they are waited for, and never stand in the way of others. Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace llorch::queen {

/// A worker that may make room.
struct Evictable {
  std::string hive, device, worker_id, model;
  std::int64_t pid = 0, used = 0;  // used: when a request ran there last, on any clock
  int inflight = 0;
  bool pinned = false;                 // never stops for others
  bool settled = true;                 // false: it loads, is kept for whoever had it made, or is being stopped
  std::optional<std::int64_t> memory;  // bytes that its end gives back; absent: its hive does not say
};

/// A hive that answered that a model has no room on a device of it now.
struct ShortOfRoom {
  std::string hive, device;
  std::int64_t need = 0, room = 0;       // bytes: of the model; what is free for it
  std::optional<std::int64_t> capacity;  // bytes that all workers together may take; absent: its hive does not say
  std::vector<Evictable> workers;        // all of the device
};

struct RoomPlan {
  enum class Kind { kFits, kEvict, kWait, kNever };
  Kind kind = Kind::kNever;
  std::string hive, device;
  std::vector<Evictable> victims;  // of kEvict
};

/// Fewest victims first; among equally many, idle ones before busy ones, then those that were used least recently.
[[nodiscard]] RoomPlan plan_room(const ShortOfRoom& hive);
/// The best of several devices: room that is there, then the fewest busy and the fewest victims, then waiting.
[[nodiscard]] RoomPlan plan_room(const std::vector<ShortOfRoom>& hives);

/// Of workers that may go without a request for room, the one to begin with: idle and used least recently. Null: none.
[[nodiscard]] const Evictable* choose_idle(const std::vector<Evictable>& workers);

}  // namespace llorch::queen
