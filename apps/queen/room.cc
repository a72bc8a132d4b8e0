#include "queen/room.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <tuple>
#include <utility>

namespace llorch::queen {
namespace {

auto order_of_leaving(const Evictable& w) { return std::tuple(w.inflight > 0, w.used, w.hive, w.worker_id); }

/// What its end gives back. A hive that does not say is believed to be helped by any one of them.
std::int64_t gain(const Evictable& w, std::int64_t missing) { return w.memory.value_or(missing); }

/// The sum of the largest few of numbers that come and go, each time in logarithmic time.
class Largest {
 public:
  Largest(const std::vector<std::int64_t>& numbers, std::size_t count) : others_(numbers.begin(), numbers.end()) {
    while (top_.size() < count && !others_.empty()) raise();
  }
  [[nodiscard]] std::int64_t sum() const { return sum_; }
  /// `number` is one of them.
  void remove(std::int64_t number) {
    if (const auto other = others_.find(number); other != others_.end()) return void(others_.erase(other));
    top_.erase(top_.find(number)), sum_ -= number;
    if (!others_.empty()) raise();
  }
  /// One fewer is summed from here on.
  void lower_count() {
    if (top_.empty()) return;
    sum_ -= *top_.begin();
    others_.insert(top_.extract(top_.begin()));
  }

 private:
  void raise() {
    sum_ += *others_.rbegin();
    top_.insert(others_.extract(std::prev(others_.end())));
  }
  std::multiset<std::int64_t> top_, others_;
  std::int64_t sum_ = 0;
};

/// How few of them bring `missing`, the largest first; one more than there are: not even all do.
std::size_t fewest(std::vector<std::int64_t> gains, std::int64_t missing) {
  std::ranges::sort(gains, std::greater());
  std::size_t count = 0;
  while (missing > 0 && count < gains.size()) missing -= gains[count++];
  return missing > 0 ? gains.size() + 1 : count;
}

/// The smallest set whose end frees `missing` bytes; the first in `candidates` are preferred. Empty: there is none.
std::vector<Evictable> smallest_set(const std::vector<Evictable>& candidates, std::int64_t missing) {
  std::vector<std::int64_t> gains;
  for (const Evictable& w : candidates) gains.push_back(gain(w, missing));
  const std::size_t count = fewest(gains, missing);
  if (count > candidates.size()) return {};
  std::vector<Evictable> chosen;
  Largest after(gains, count - 1);  // of those that follow: what the places that are left can bring at most
  for (std::size_t i = 0; i < candidates.size() && chosen.size() < count && missing > 0; ++i) {
    after.remove(gains[i]);
    if (gains[i] + after.sum() < missing) continue;
    missing -= gains[i];
    chosen.push_back(candidates[i]);
    after.lower_count();
  }
  return chosen;
}

}  // namespace

RoomPlan plan_room(const ShortOfRoom& hive) {
  using Kind = RoomPlan::Kind;
  const std::int64_t missing = hive.need - hive.room;
  if (missing <= 0) return {Kind::kFits, hive.hive, hive.device, {}};
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
  if (!ever) return {Kind::kNever, hive.hive, hive.device, {}};
  std::ranges::sort(candidates, {}, order_of_leaving);
  std::vector<Evictable> victims = smallest_set(candidates, missing);
  if (!victims.empty()) return {Kind::kEvict, hive.hive, hive.device, std::move(victims)};
  return {Kind::kWait, hive.hive, hive.device, {}};
}

RoomPlan plan_room(const std::vector<ShortOfRoom>& hives) {
  const auto rank = [](const RoomPlan& p) {
    static constexpr RoomPlan::Kind kOrder[] = {RoomPlan::Kind::kFits, RoomPlan::Kind::kEvict, RoomPlan::Kind::kWait,
                                                RoomPlan::Kind::kNever};
    const auto busy = std::ranges::count_if(p.victims, [](const Evictable& w) { return w.inflight > 0; });
    std::int64_t used = 0;
    for (const Evictable& w : p.victims) used = std::max(used, w.used);
    return std::tuple(std::ranges::find(kOrder, p.kind) - kOrder, busy, p.victims.size(), used, p.hive, p.device);
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
