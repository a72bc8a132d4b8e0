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

HiveView with_gpu(const std::string& id, std::int64_t cpu_mb, std::int64_t gpu_mb,
                  std::vector<WorkerView> workers = {}) {
  HiveView h = hive(id, cpu_mb, std::move(workers));
  h.devices.push_back({"cuda:0", "gpu", gpu_mb << 20});
  return h;
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

TEST(Policy, the_kind_of_worker_is_the_preferred_one_unless_the_request_names_another) {
  WorkerView library = worker("w1", "m", 0);
  library.kind = "accelerate";
  const Requirements any{"m", "", "", ""}, asked{"m", "", "", "", "accelerate"};
  const std::vector<HiveView> both{hive("a", 9000, {library, worker("w2", "m", 3)})};
  EXPECT_EQ(decide(both, any).worker_id, "w2") << "also where the other is idle";
  EXPECT_EQ(decide(both, any, "accelerate").worker_id, "w1");
  EXPECT_EQ(decide(both, asked).worker_id, "w1");
  EXPECT_EQ(decide({hive("a", 9000, {library, worker("w2", "m", 4)})}, any).worker_id, "w1") << "when that is full";
  const Decision used = decide({hive("a", 9000, {library})}, any);
  EXPECT_EQ(used.worker_id, "w1") << "nothing is made where a worker has the model";
  EXPECT_EQ(used.worker_kind, "accelerate");
  const Decision made = decide({hive("a", 9000, {worker("w2", "m", 0)})}, asked);
  EXPECT_EQ(made.kind, Kind::kProvision) << "beside the cpu worker";
  EXPECT_EQ(made.worker_kind, "accelerate");
  EXPECT_EQ(made.device, "cpu");
  EXPECT_EQ(decide({hive("a", 9000)}, any).worker_kind, "cpu");
  EXPECT_EQ(decide({hive("a", 9000)}, any, "accelerate").worker_kind, "accelerate");
}

TEST(Policy, where_a_model_is_to_be_loaded_concerns_no_worker_that_runs) {
  Requirements wanted{"m", "", "", ""};
  wanted.made_on = "gpu";
  const std::vector<HiveView> idle{hive("a", 9000, {worker("w1", "m", 0)})};
  EXPECT_EQ(decide(idle, wanted).worker_id, "w1");
  const std::vector<HiveView> full{hive("a", 9000, {worker("w1", "m", 4)})};
  EXPECT_EQ(decide(full, wanted).kind, Kind::kWait) << "nothing is made beside it";
  wanted.worker_id = "w1";
  EXPECT_EQ(decide(idle, wanted).kind, Kind::kUse);
  EXPECT_EQ(decide(full, wanted).kind, Kind::kWait);
  wanted.worker_id.clear();
  const Decision none = decide({hive("a", 9000)}, wanted);
  EXPECT_EQ(none.kind, Kind::kNone);
  EXPECT_EQ(none.why, "no hive has the device gpu: a has cpu");
  EXPECT_EQ(decide({hive("a", 9000), with_gpu("b", 10, 10)}, wanted).device, "cuda:0");
  wanted.made_on = "cpu";
  EXPECT_EQ(decide({with_gpu("b", 10, 10)}, wanted).device, "cpu");
  wanted.device = "gpu";
  EXPECT_EQ(decide({with_gpu("b", 10, 10)}, wanted).device, "cuda:0") << "a request's own goes first";
}

TEST(Policy, then_the_strongest_device) {
  const std::vector<HiveView> hives{hive("a", 1000), hive("b", 2000), hive("c", 2000)};
  const Decision d = decide(hives, {"m", "", "", ""});
  EXPECT_EQ(d.kind, Kind::kProvision);
  EXPECT_EQ(d.hive, "b") << "equal ones by name";
  EXPECT_NE(d.why.find("2.10 GB"), std::string::npos) << d.why;
}

TEST(Policy, a_gpu_before_a_cpu) {
  const std::vector<HiveView> hives{hive("a", 90'000), with_gpu("b", 80'000, 100), with_gpu("c", 70'000, 200)};
  const Decision d = decide(hives, {"m", "", "", ""}, "accelerate");
  EXPECT_EQ(d.kind, Kind::kProvision);
  EXPECT_EQ(d.hive + d.device, "ccuda:0");
  EXPECT_EQ(d.worker_kind, "cuda");
  const auto place = [&](const std::string& device, const std::string& kind = "") {
    const Decision made = decide(hives, {"m", "", "", device, kind});
    return made.kind == Kind::kProvision ? made.hive + " " + made.device + " " + made.worker_kind : made.why;
  };
  EXPECT_EQ(place("cpu"), "a cpu cpu");
  EXPECT_EQ(place("gpu"), "c cuda:0 cuda");
  EXPECT_EQ(place("cuda:0"), "c cuda:0 cuda");
  EXPECT_EQ(place("", "accelerate"), "a cpu accelerate");
  EXPECT_EQ(place("", "cuda"), "c cuda:0 cuda");
  EXPECT_EQ(place("cuda:1"), "no hive has the device cuda:1: a has cpu; b has cpu, cuda:0; c has cpu, cuda:0");
  EXPECT_EQ(place("cpu", "cuda"),
            "no hive has the device cpu for a worker of kind cuda: a has cpu; b has cpu, cuda:0; c has cpu, cuda:0");
  EXPECT_EQ(decide({}, {"m", "", "", "", ""}).why, "no hive has a device");
}

TEST(Policy, a_worker_on_a_gpu_serves_before_one_on_a_cpu) {
  WorkerView on_gpu = worker("w1", "m", 3);
  on_gpu.device = "cuda:0", on_gpu.kind = "cuda";
  const std::vector<HiveView> hives{with_gpu("a", 9000, 9000, {on_gpu, worker("w2", "m", 0)})};
  EXPECT_EQ(decide(hives, {"m", "", "", ""}).worker_id, "w1");
  EXPECT_EQ(decide(hives, {"m", "", "", "cpu"}).worker_id, "w2");
  EXPECT_EQ(decide(hives, {"m", "", "", "gpu"}).worker_id, "w1");
  const Decision other = decide({with_gpu("a", 9000, 9000, {worker("w2", "m", 0)})}, {"m", "", "", "cuda:0"});
  EXPECT_EQ(other.kind, Kind::kProvision) << "where the request names the GPU, the CPU's worker does not do";
}

TEST(Policy, what_a_gpu_has_refused_goes_to_the_cpu_and_the_reason_is_told) {
  std::vector<HiveView> hives{with_gpu("a", 9000, 9000)};
  hives[0].devices[1].refusal = "30000 MB are needed, 9000 MB are free";
  const Decision d = decide(hives, {"m", "", "", ""});
  EXPECT_EQ(d.device, "cpu");
  EXPECT_NE(d.why.find("not cuda:0 of a: 30000 MB are needed, 9000 MB are free"), std::string::npos) << d.why;
  const Decision asked = decide(hives, {"m", "", "", "cpu"});
  EXPECT_EQ(asked.why.find("cuda:0"), std::string::npos) << "the GPU was not wanted: " << asked.why;
  EXPECT_EQ(decide(hives, {"m", "", "", "gpu"}).why, "cuda:0 of a: 30000 MB are needed, 9000 MB are free");
  hives.push_back(with_gpu("b", 1, 100));
  EXPECT_EQ(decide(hives, {"m", "", "", ""}).hive, "b") << "another GPU";
  hives[1].devices[1].problem = "the GPU is lost";
  EXPECT_EQ(decide(hives, {"m", "", "", ""}).hive, "a") << "the CPU with more memory";
  const Decision nowhere = decide(hives, {"m", "", "", "gpu"});
  EXPECT_EQ(nowhere.kind, Kind::kNone);
  EXPECT_NE(nowhere.why.find("cuda:0 of b: the GPU is lost"), std::string::npos) << nowhere.why;
}

TEST(Policy, a_full_colony_waits_and_a_refusal_is_told) {
  EXPECT_EQ(decide({hive("a", 1000, {worker("w1", "m", 4)})}, {"m", "", "", ""}).kind, Kind::kWait);
  EXPECT_EQ(decide({hive("a", 1000, {worker("w1", "m", 0, "starting")})}, {"m", "", "", ""}).kind, Kind::kWait);
  EXPECT_EQ(decide({hive("a", 1000, {worker("w1", "m", 4)}), hive("b", 10)}, {"m", "", "", ""}).hive, "b");
  const HiveView going = hive("a", 1000, {worker("w1", "m", 0, "stopping")});
  EXPECT_EQ(decide({going}, {"m", "", "", ""}).kind, Kind::kWait) << "its place is free in a moment";
  EXPECT_EQ(decide({going, hive("b", 10)}, {"m", "", "", ""}).hive, "b") << "who has room now does not wait";
  HiveView no = hive("a", 1000);
  no.devices[0].refusal = "no room";
  const Decision d = decide({no}, {"m", "", "", ""});
  EXPECT_EQ(d.kind, Kind::kNone);
  EXPECT_EQ(d.why, "a: no room");
  EXPECT_EQ(decide({}, {"m", "", "", ""}).kind, Kind::kNone);
  EXPECT_EQ(decide({hive("a", 1)}, {"m", "", "nobody", ""}).kind, Kind::kNone);
  HiveView unknown = hive("a", 0);
  unknown.known = false;
  EXPECT_EQ(decide({unknown}, {"m", "", "", ""}).kind, Kind::kWait) << "its capabilities have not come yet";
}

TEST(Policy, who_goes_from_a_full_line) {
  WaitingLine line;
  EXPECT_EQ(line.least_wanted(false), nullptr);
  line.join("i1", false), line.join("i2", false);
  EXPECT_EQ(line.least_wanted(true), nullptr) << "a batch request never displaces an interactive one";
  EXPECT_EQ(line.least_wanted(false)->model, "i1");
  line.join("b1", true), line.join("b2", true);
  EXPECT_EQ(line.least_wanted(false)->model, "b1");
  EXPECT_EQ(line.least_wanted(true)->model, "b1");
}

TEST(Policy, whoever_becomes_first_is_told_and_nobody_else) {
  WaitingLine line;
  std::string told;
  const auto join = [&](const std::string& model, bool batch, char name) {
    return line.join({model, batch, {}, [&told, name] { told += name; }});
  };
  const auto a = join("m", false, 'a'), b = join("m", true, 'b'), c = join("m", false, 'c'), d = join("m", false, 'd'),
             other = join("n", false, 'o');
  EXPECT_TRUE(line.first(a) && line.first(other));
  EXPECT_FALSE(line.first(b) || line.first(c) || line.first(d));
  line.leave(c);
  EXPECT_EQ(told, "") << "it was not the first";
  line.leave(a);
  EXPECT_EQ(told, "d");
  EXPECT_TRUE(line.first(d));
  line.leave(d);
  EXPECT_EQ(told, "db") << "batch when nobody else is left";
  EXPECT_EQ(line.by_model(), (std::map<std::string, int>{{"m", 1}, {"n", 1}}));
  line.leave(b), line.leave(other);
  EXPECT_EQ(told, "db");
  EXPECT_EQ(line.count(), 0);
  EXPECT_FALSE(line.has("m"));
}

TEST(Policy, a_hive_that_does_not_answer_gets_nothing_and_is_waited_for) {
  HiveView silent = hive("a", 9000);
  silent.silent = true;
  const std::vector<HiveView> both{silent, hive("b", 10)};
  EXPECT_EQ(decide(both, {"m", "", "", ""}).hive, "b");
  const Decision alone = decide({silent}, {"m", "", "", ""});
  EXPECT_EQ(alone.kind, Kind::kWait);
  EXPECT_NE(alone.why.find("a does not answer"), std::string::npos) << alone.why;
  silent.known = false;
  EXPECT_EQ(decide({silent, hive("b", 10)}, {"m", "", "", ""}).hive, "b") << "nobody waits for its capabilities";
  silent.known = true, silent.workers = {worker("w1", "m", 0)};
  EXPECT_EQ(decide({silent}, {"m", "", "", ""}).worker_id, "w1") << "its workers are programs of their own";
}

TEST(Policy, advice_names_a_hive_that_has_room) {
  const std::vector<HiveView> hives{hive("a", 1000, {worker("w1", "m", 4)}), hive("b", 2000), hive("c", 3000)};
  const auto advice = advise({{"m", 12}, {"rare", 1}, {"many", 3}}, hives);
  ASSERT_EQ(advice.size(), 3u);
  EXPECT_NE(advice[0].find("12 requests wait for m, which has 4 seats"), std::string::npos) << advice[0];
  EXPECT_NE(advice[0].find("--hive c --model m"), std::string::npos) << advice[0];
  EXPECT_NE(advise({{"m", 12}}, {hives[0]})[0].find("another machine"), std::string::npos);
  EXPECT_TRUE(advise({{"m", 4}}, hives).empty()) << "the next round takes them";
}

}  // namespace
}  // namespace llorch::queen
