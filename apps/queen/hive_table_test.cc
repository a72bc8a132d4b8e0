#include "queen/hive_table.h"

#include <gtest/gtest.h>

namespace llorch::queen {
namespace {

struct Table {
  net::Clock::time_point now{std::chrono::hours(1)};
  HiveTable hives{{std::chrono::seconds(90), 2, [this] { return now; }}};

  Result<HiveTable::BeatEffect> beat(const std::string& id, std::vector<colony::WorkerFacts> workers = {},
                                     const std::string& url = "http://10.0.0.1:8600", const std::string& via = {}) {
    colony::HiveBeat b;
    b.hive_id = id, b.url = url, b.version = "1", b.workers = std::move(workers);
    return hives.beat(std::move(b), *service::make_peer(url), via);
  }
};

colony::WorkerFacts worker(const std::string& id, const std::string& model) {
  colony::WorkerFacts w;
  w.worker_id = id, w.model_ref = model, w.device = "cpu", w.kind = "cpu", w.state = "ready", w.memory_bytes = 10;
  return w;
}

TEST(HiveTable, missed_heartbeats_make_a_hive_offline_and_nothing_else_does) {
  Table t;
  ASSERT_TRUE(t.beat("a"));
  EXPECT_TRUE(t.hives.mark_silent("a"));
  EXPECT_FALSE(t.hives.mark_silent("a")) << "it was known";
  EXPECT_TRUE(t.hives.online("a")) << "unknown is not dead";
  EXPECT_TRUE(t.hives.responsive().empty());
  t.now += std::chrono::seconds(60);
  const auto late = t.beat("a");
  ASSERT_TRUE(late);
  EXPECT_TRUE(late->answers_again);
  EXPECT_FALSE(late->came_online) << "a late heartbeat is no new hive";
  EXPECT_EQ(t.hives.responsive().size(), 1u);
  t.now += std::chrono::seconds(91);
  EXPECT_FALSE(t.hives.online("a"));
  EXPECT_TRUE(t.beat("a")->came_online);
  EXPECT_FALSE(t.hives.mark_silent("nobody"));
}

TEST(HiveTable, a_hive_that_another_queen_hears_is_alive_until_she_says_so_no_longer) {
  Table t;
  ASSERT_TRUE(t.beat("a", {worker("w1", "m")}, "http://10.0.0.1:8600", "other"));
  t.now += std::chrono::hours(24);
  EXPECT_TRUE(t.hives.online("a"));
  t.hives.end_via("a");
  EXPECT_TRUE(t.hives.online("a")) << "for as long as after a heartbeat: unknown is not dead";
  t.now += std::chrono::seconds(91);
  EXPECT_FALSE(t.hives.online("a"));
  // What it says itself comes before what another one says of it, and that of another machine replaces it.
  ASSERT_TRUE(t.beat("a", {worker("w1", "m")}, "http://10.0.0.1:8600", "other"));
  ASSERT_TRUE(t.beat("a", {worker("w1", "m")}));
  EXPECT_EQ(t.hives.find("a")->via, "");
  EXPECT_FALSE(t.beat("a", {}, "http://10.0.0.2:8600")) << "the name is taken";
  ASSERT_TRUE(t.beat("a", {}, "http://10.0.0.2:8600", "other")) << "the other queen has settled that";
  EXPECT_EQ(t.hives.find("a")->url, "http://10.0.0.2:8600");
  t.hives.end_via("nobody");
}

TEST(HiveTable, figures_that_cannot_be_are_not_counted_with) {
  Table t;
  ASSERT_TRUE(t.beat("a"));
  HiveEntry& h = *t.hives.find("a");
  h.capabilities.devices = {{.id = "cpu", .type = "cpu", .memory_free = 7}};
  const auto tell = [&](std::int64_t total, std::int64_t used) {
    colony::HiveBeat b;
    b.hive_id = "a", b.url = h.url, b.node = {{"ram_total_mb", total}, {"ram_used_mb", used}};
    EXPECT_TRUE(t.hives.beat(std::move(b), *service::make_peer(h.url)));
    return h.capabilities.devices[0].memory_free;
  };
  EXPECT_EQ(tell(INT64_MIN, INT64_MAX), 7);
  EXPECT_EQ(tell(INT64_MAX, 0), 7);
  EXPECT_EQ(tell(5, 2), 3 << 20);
}

TEST(HiveTable, free_memory_of_gpus_comes_with_the_beat) {
  Table t;
  ASSERT_TRUE(t.beat("a"));
  HiveEntry& h = *t.hives.find("a");
  h.known = true;
  h.capabilities.devices = {{.id = "cpu", .type = "cpu", .memory_free = 7},
                            {.id = "cuda:0", .type = "gpu", .memory_free = 8},
                            {.id = "cuda:1", .type = "gpu", .memory_free = 9, .problem = "it is lost"}};
  const auto tell = [&](boost::json::value total, boost::json::value used) {
    colony::HiveBeat b;
    b.hive_id = "a", b.url = h.url, b.revision = h.revision = "r";
    b.node = {{"gpus", {{{"id", "cuda:0"}, {"vram_total_mb", std::move(total)}, {"vram_used_mb", std::move(used)}}}}};
    const auto effect = t.hives.beat(std::move(b), *service::make_peer(h.url));
    EXPECT_TRUE(effect && !effect->stale) << "nothing else has changed";
    return h.capabilities.devices[1].memory_free;
  };
  EXPECT_EQ(tell(10, 4), 6 << 20);
  EXPECT_EQ(tell(INT64_MAX, 0), 6 << 20);
  EXPECT_EQ(tell(nullptr, nullptr), 6 << 20);
  EXPECT_EQ(h.capabilities.devices[0].memory_free, 7);
  EXPECT_EQ(h.capabilities.devices[2].memory_free, 9);
  const HiveView seen = t.hives.view_all()[0];
  EXPECT_EQ(seen.devices[1].memory_free, 6 << 20);
  EXPECT_EQ(seen.devices[2].problem, "it is lost");
}

TEST(HiveTable, a_name_belongs_to_who_is_alive) {
  Table t;
  ASSERT_TRUE(t.beat("a"));
  const auto other = t.beat("a", {}, "http://10.0.0.2:8600");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kResourceInUse);
  EXPECT_EQ(t.hives.find("a")->url, "http://10.0.0.1:8600");
  t.now += std::chrono::seconds(91);
  EXPECT_TRUE(t.beat("a", {}, "http://10.0.0.2:8600"));
}

TEST(HiveTable, what_is_kept_for_somebody_or_stopped_makes_no_room) {
  Table t;
  ASSERT_TRUE(t.beat("a", {worker("w1", "m1"), worker("w2", "m2"), worker("w3", "m3")}));
  t.hives.set_leaving("a", "w1", true);
  int ended = 0;
  {
    const ProvisioningMark mark(t.hives, "a", "m2", [&] { ++ended; });
    const auto workers = t.hives.workers_of("a", {"m3"});
    ASSERT_EQ(workers.size(), 3u);
    EXPECT_FALSE(workers[0].settled) << "it is being stopped";
    EXPECT_FALSE(workers[1].settled) << "it was made for a request that has no seat yet";
    EXPECT_TRUE(workers[2].pinned);
    EXPECT_EQ(workers[2].memory, 10);
  }
  EXPECT_EQ(ended, 1);
  EXPECT_TRUE(t.hives.workers_of("a", {})[1].settled);
  EXPECT_TRUE(t.hives.any_leaving("a"));
  EXPECT_FALSE(t.hives.any_leaving("aa"));
}

TEST(HiveTable, seats_are_counted) {
  Table t;
  ASSERT_TRUE(t.beat("a", {worker("w1", "m1")}));
  int freed = 0;
  auto seat = t.hives.take_seat("a", "w1", [&] { ++freed; });
  EXPECT_EQ(*t.hives.inflight("a", "w1"), 1);
  EXPECT_EQ(t.hives.inflight_of("a"), 1);
  seat.reset();
  EXPECT_EQ(t.hives.inflight_of("a"), 0);
  EXPECT_EQ(freed, 1);
  EXPECT_GT(t.hives.workers_of("a", {})[0].used, 0);
}

TEST(HiveTable, a_figure_of_memory_that_cannot_be_is_left_out) {
  Table t;
  ASSERT_TRUE(t.beat("a"));
  t.hives.find("a")->capabilities.devices = {{"cpu", "cpu", "cpu", 1000, 1000, "", "", 1}};
  for (const auto& [total, used] : {std::pair(INT64_MAX, std::int64_t{0}), std::pair(std::int64_t{1}, INT64_MIN),
                                    std::pair(INT64_MAX, INT64_MIN)}) {
    colony::HiveBeat b;
    b.hive_id = "a", b.url = "http://10.0.0.1:8600", b.version = "1";
    b.node = {{"ram_total_mb", total}, {"ram_used_mb", used}};
    ASSERT_TRUE(t.hives.beat(std::move(b), *service::make_peer("http://10.0.0.1:8600")));
    EXPECT_EQ(*t.hives.find("a")->capabilities.devices[0].memory_free, 1000);
  }
}

}  // namespace
}  // namespace llorch::queen
