#include "queen/room.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace llorch::queen {
namespace {

auto order_of_leaving(const Evictable& w) { return std::tuple(w.inflight > 0, w.used, w.hive, w.worker_id); }

/// What its end gives back. A hive that does not say is believed to be helped by any one of them.
std::int64_t gain(const Evictable& w, std::int64_t missing) { return w.memory.value_or(missing); }

std::int64_t sum_of_largest(std::vector<std::int64_t> gains, std::size_t count) {
  std::ranges::sort(gains, std::greater());
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < std::min(count, gains.size()); ++i) sum += gains[i];
  return sum;
}

/// The smallest set whose end frees `missing` bytes; the first in `candidates` are preferred. Empty: there is none.
std::vector<Evictable> smallest_set(const std::vector<Evictable>& candidates, std::int64_t missing) {
  std::vector<std::int64_t> gains;
  for (const Evictable& w : candidates) gains.push_back(gain(w, missing));
  std::size_t count = 1;
  while (count <= candidates.size() && sum_of_largest(gains, count) < missing) ++count;
  if (count > candidates.size()) return {};
  std::vector<Evictable> chosen;
  for (std::size_t i = 0; i < candidates.size() && chosen.size() < count && missing > 0; ++i) {
    // Taken when the largest that follow can still bring the rest.
    const std::vector<std::int64_t> after(gains.begin() + static_cast<std::ptrdiff_t>(i) + 1, gains.end());
    if (gains[i] + sum_of_largest(after, count - chosen.size() - 1) < missing) continue;
    missing -= gains[i];
    chosen.push_back(candidates[i]);
  }
  return chosen;
}

}  // namespace

RoomPlan plan_room(const ShortOfRoom& hive) {
  using Kind = RoomPlan::Kind;
  const std::int64_t missing = hive.need - hive.room;
  if (missing <= 0) return {Kind::kFits, hive.hive, {}};
  std::int64_t fixed = 0, returned = 0;  // of pinned workers; of all others
  std::vector<Evictable> candidates;
  for (const Evictable& w : hive.workers) {
    if (w.pinned) {
      fixed += w.memory.value_or(0);
      continue;
    }
    returned += gain(w, missing);
    if (w.settled) candidates.push_back(w);
  }
  // Another worker may have begun since the hive said what is free: its own word on the whole counts.
  const bool ever = hive.capacity ? hive.need <= *hive.capacity - fixed : returned >= missing;
  if (!ever) return {Kind::kNever, hive.hive, {}};
  std::ranges::sort(candidates, {}, order_of_leaving);
  std::vector<Evictable> victims = smallest_set(candidates, missing);
  if (!victims.empty()) return {Kind::kEvict, hive.hive, std::move(victims)};
  return {Kind::kWait, hive.hive, {}};
}

RoomPlan plan_room(const std::vector<ShortOfRoom>& hives) {
  const auto rank = [](const RoomPlan& p) {
    static constexpr RoomPlan::Kind kOrder[] = {RoomPlan::Kind::kFits, RoomPlan::Kind::kEvict, RoomPlan::Kind::kWait,
                                                RoomPlan::Kind::kNever};
    const auto busy = std::ranges::count_if(p.victims, [](const Evictable& w) { return w.inflight > 0; });
    std::int64_t used = 0;
    for (const Evictable& w : p.victims) used = std::max(used, w.used);
    return std::tuple(std::ranges::find(kOrder, p.kind) - kOrder, busy, p.victims.size(), used, p.hive);
  };
  RoomPlan best;
  bool any = false;
  for (const ShortOfRoom& h : hives)
    if (RoomPlan p = plan_room(h); !std::exchange(any, true) || rank(p) < rank(best)) best = std::move(p);
  return best;
}

const Evictable* choose_idle(const std::vector<Evictable>& workers) {
  const Evictable* best = nullptr;
  for (const Evictable& w : workers)
    if (!w.pinned && w.settled && w.inflight == 0 && (!best || order_of_leaving(w) < order_of_leaving(*best)))
      best = &w;
  return best;
}

}  // namespace llorch::queen
