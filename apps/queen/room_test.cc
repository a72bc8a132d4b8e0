#include "queen/room.h"

#include <gtest/gtest.h>

#include <random>

namespace llorch::queen {
namespace {

using RoomKind = RoomPlan::Kind;

Evictable worker(const std::string& id, std::int64_t memory, std::int64_t used, int inflight = 0) {
  Evictable w;
  w.hive = "a", w.worker_id = id, w.model = "m" + id, w.used = used, w.inflight = inflight, w.memory = memory;
  return w;
}
ShortOfRoom hive(std::int64_t need, std::int64_t room, std::vector<Evictable> workers) {
  ShortOfRoom h{"a", "cpu", need, room, room, std::move(workers)};
  for (const Evictable& w : h.workers) *h.capacity += *w.memory;
  return h;
}
std::string names(const RoomPlan& p) {
  std::string out;
  for (const Evictable& w : p.victims) out += w.worker_id;
  return out;
}

TEST(Room, nobody_goes_when_not_even_an_empty_machine_would_do) {
  const RoomPlan p = plan_room(hive(100, 10, {worker("1", 40, 1), worker("2", 40, 2)}));
  EXPECT_EQ(p.kind, RoomKind::kNever);
  EXPECT_TRUE(p.victims.empty());
  EXPECT_EQ(plan_room(hive(100, 10, {})).kind, RoomKind::kNever);
}

TEST(Room, as_few_go_as_will_do) {
  const std::vector<Evictable> idle{worker("1", 10, 1), worker("2", 10, 2), worker("3", 40, 3), worker("4", 10, 4)};
  EXPECT_EQ(names(plan_room(hive(20, 10, idle))), "1") << "the one that was used least recently";
  EXPECT_EQ(names(plan_room(hive(45, 10, idle))), "3") << "one large one instead of three small ones";
  EXPECT_EQ(names(plan_room(hive(60, 10, idle))), "13");
  EXPECT_EQ(names(plan_room(hive(80, 10, idle))), "1234");
  EXPECT_EQ(plan_room(hive(10, 10, idle)).kind, RoomKind::kFits);
}

TEST(Room, idle_ones_before_busy_ones_and_never_pinned_ones) {
  Evictable pinned = worker("0", 50, 0);
  pinned.pinned = true;
  const auto busy = worker("1", 50, 1, 2), idle = worker("2", 50, 9);
  EXPECT_EQ(names(plan_room(hive(50, 0, {pinned, busy, idle}))), "2");
  EXPECT_EQ(names(plan_room(hive(50, 0, {pinned, busy}))), "1") << "it goes when its requests have ended";
  EXPECT_EQ(plan_room(hive(50, 0, {pinned})).kind, RoomKind::kNever);
  EXPECT_EQ(plan_room(hive(101, 0, {pinned, busy, idle})).kind, RoomKind::kNever);
}

TEST(Room, one_that_loads_is_waited_for) {
  Evictable loading = worker("1", 50, 1);
  loading.settled = false;
  EXPECT_EQ(plan_room(hive(50, 0, {loading})).kind, RoomKind::kWait);
  EXPECT_EQ(names(plan_room(hive(50, 0, {loading, worker("2", 50, 2)}))), "2") << "and keeps nobody from going on";
  EXPECT_EQ(plan_room(hive(90, 0, {loading, worker("2", 50, 2)})).kind, RoomKind::kWait)
      << "nobody goes before it helps";
}

TEST(Room, a_hive_that_does_not_say_what_workers_take) {
  ShortOfRoom h = hive(50, 10, {worker("1", 1, 1), worker("2", 1, 2)});
  h.capacity.reset();
  for (Evictable& w : h.workers) w.memory.reset();
  EXPECT_EQ(names(plan_room(h)), "1");
  h.workers.clear();
  EXPECT_EQ(plan_room(h).kind, RoomKind::kNever);
}

TEST(Room, the_hive_with_the_least_harm) {
  ShortOfRoom busy = hive(50, 0, {worker("1", 50, 1, 1)}), idle = hive(50, 0, {worker("2", 25, 2), worker("3", 25, 3)}),
              never = hive(50, 10, {});
  busy.hive = "b", never.hive = "c";
  EXPECT_EQ(plan_room({never, busy, idle}).hive, "a");
  EXPECT_EQ(plan_room({never, busy}).hive, "b");
  EXPECT_EQ(plan_room({never}).kind, RoomKind::kNever);
}

/// With a sort for each of them this took seconds, and the queen answered nobody meanwhile.
TEST(Room, thousands_of_workers_are_planned_at_once) {
  std::vector<Evictable> workers;
  for (int i = 0; i < 10'000; ++i) workers.push_back(worker(std::to_string(i), i < 5'000 ? 1 : 2, i));
  const RoomPlan p = plan_room(hive(12'000, 0, workers));
  ASSERT_EQ(p.kind, RoomKind::kEvict);
  ASSERT_EQ(p.victims.size(), 7'000u) << "all 5,000 large ones bring 10,000, and 2,000 small ones the rest";
  EXPECT_EQ(p.victims[1'999].worker_id, "1999") << "of small ones those that were used least recently";
  EXPECT_EQ(p.victims[2'000].worker_id, "5000");
}

/// Against all subsets.
TEST(Room, no_smaller_set_would_do) {
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    std::vector<Evictable> workers;
    for (int i = 0, n = 1 + static_cast<int>(random() % 7); i < n; ++i) {
      workers.push_back(worker(std::to_string(i), 1 + static_cast<int>(random() % 20), static_cast<int>(random() % 5),
                               static_cast<int>(random() % 2)));
      workers.back().pinned = random() % 6 == 0, workers.back().settled = random() % 6 != 0;
    }
    const ShortOfRoom h = hive(1 + static_cast<int>(random() % 60), static_cast<int>(random() % 10), workers);
    const std::int64_t missing = h.need - h.room;
    int fewest = 99;
    std::int64_t ever = 0;
    for (unsigned set = 1; set < 1u << workers.size(); ++set) {
      std::int64_t freed = 0;
      bool allowed = true;
      int count = 0;
      for (std::size_t i = 0; i < workers.size(); ++i)
        if (set >> i & 1) freed += *workers[i].memory, allowed &= !workers[i].pinned && workers[i].settled, ++count;
      if (allowed && freed >= missing) fewest = std::min(fewest, count);
    }
    for (const Evictable& w : workers) ever += w.pinned ? 0 : *w.memory;
    const RoomPlan p = plan_room(h);
    if (missing <= 0) {
      EXPECT_EQ(p.kind, RoomKind::kFits);
    } else if (ever < missing) {
      EXPECT_EQ(p.kind, RoomKind::kNever);
    } else if (fewest == 99) {
      EXPECT_EQ(p.kind, RoomKind::kWait);
    } else {
      ASSERT_EQ(p.kind, RoomKind::kEvict);
      EXPECT_EQ(static_cast<int>(p.victims.size()), fewest);
      std::int64_t freed = 0;
      for (const Evictable& w : p.victims) {
        freed += *w.memory;
        EXPECT_TRUE(w.settled && !w.pinned);
      }
      EXPECT_GE(freed, missing);
    }
  }
}

}  // namespace
}  // namespace llorch::queen
