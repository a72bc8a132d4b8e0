#include "queen/policy.h"

#include <gtest/gtest.h>

namespace llorch::queen {
namespace {

using Kind = Decision::Kind;

HiveView hive(const std::string& id, std::int64_t free_mb, std::vector<WorkerView> workers = {}) {
  HiveView h;
  h.id = id, h.known = true, h.workers = std::move(workers);
  h.devices = {{"cpu", "cpu", free_mb << 20}};
  return h;
}
WorkerView worker(const std::string& id, const std::string& model, int inflight, const std::string& state = "ready") {
  return {id, model, "cpu", "cpu", state, inflight, 4};
}

TEST(Policy, an_idle_worker_with_the_model_comes_first) {
  const std::vector<HiveView> hives{hive("a", 9000, {worker("w1", "m", 2)}),
                                    hive("b", 100, {worker("w2", "m", 0), worker("w3", "other", 0)})};
  const Decision d = decide(hives, {"m", "", "", ""});
  EXPECT_EQ(d.kind, Kind::kUse);
  EXPECT_EQ(d.worker_id, "w2");
  EXPECT_EQ(decide(hives, {"m", "a", "", ""}).worker_id, "w1");
  EXPECT_EQ(decide(hives, {"m", "", "w1", ""}).worker_id, "w1");
}

TEST(Policy, then_the_strongest_device) {
  const std::vector<HiveView> hives{hive("a", 1000), hive("b", 2000), hive("c", 2000)};
  const Decision d = decide(hives, {"m", "", "", ""});
  EXPECT_EQ(d.kind, Kind::kProvision);
  EXPECT_EQ(d.hive, "b") << "equal ones by name";
  EXPECT_NE(d.why.find("2000 MB"), std::string::npos) << d.why;
}

TEST(Policy, a_full_colony_waits_and_a_refusal_is_told) {
  EXPECT_EQ(decide({hive("a", 1000, {worker("w1", "m", 4)})}, {"m", "", "", ""}).kind, Kind::kWait);
  EXPECT_EQ(decide({hive("a", 1000, {worker("w1", "m", 0, "starting")})}, {"m", "", "", ""}).kind, Kind::kWait);
  EXPECT_EQ(decide({hive("a", 1000, {worker("w1", "m", 4)}), hive("b", 10)}, {"m", "", "", ""}).hive, "b");
  HiveView no = hive("a", 1000);
  no.refused = true, no.refusal = "no room";
  const Decision d = decide({no}, {"m", "", "", ""});
  EXPECT_EQ(d.kind, Kind::kNone);
  EXPECT_EQ(d.why, "a: no room");
  EXPECT_EQ(decide({}, {"m", "", "", ""}).kind, Kind::kNone);
  EXPECT_EQ(decide({hive("a", 1)}, {"m", "", "nobody", ""}).kind, Kind::kNone);
  HiveView unknown = hive("a", 0);
  unknown.known = false;
  EXPECT_EQ(decide({unknown}, {"m", "", "", ""}).kind, Kind::kWait) << "its capabilities have not come yet";
}

}  // namespace
}  // namespace llorch::queen
