// What is taken of a heartbeat: lists and figures have bounds, for the queen counts with them.
#include "colony/facts.h"

#include <gtest/gtest.h>

namespace llorch::colony {
namespace {

using boost::json::object;

object worker(std::int64_t memory, std::size_t number = 0) {
  return {{"worker_id", "w" + std::to_string(number)},
          {"model_ref", "m"},
          {"device", "cpu"},
          {"kind", "cpu"},
          {"state", "ready"},
          {"pid", 1},
          {"port", 1},
          {"memory_bytes", memory}};
}
Result<HiveBeat> beat(std::size_t workers, std::int64_t memory = 0, object node = {}) {
  boost::json::array list;
  for (std::size_t i = 0; i < workers; ++i) list.push_back(worker(memory, i));
  return read_beat(object{{"hive_id", "a"}, {"url", "http://a"}, {"version", "1"}, {"node", node}, {"workers", list}});
}

TEST(Facts, a_hive_has_a_bounded_number_of_workers) {
  EXPECT_TRUE(beat(512));
  const auto more = beat(513);
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, ErrorCode::kInvalidRequest);
}

TEST(Facts, a_worker_is_named_once) {
  const boost::json::array twice{worker(0, 1), worker(0, 2), worker(0, 1)};
  EXPECT_FALSE(
      read_beat(object{{"hive_id", "a"}, {"url", "http://a"}, {"version", "1"}, {"node", {}}, {"workers", twice}}));
}

TEST(Facts, capabilities_of_a_worker_are_a_few_identifiers) {
  const auto told = [](const boost::json::value& capabilities) {
    object one = worker(0, 1);
    one["capabilities"] = capabilities;
    return read_beat(object{{"hive_id", "a"}, {"url", "http://a"}, {"version", "1"}, {"node", {}}, {"workers", {one}}});
  };
  EXPECT_EQ(told({"text-gen", "tools"})->workers[0].capabilities, (std::vector<std::string>{"text-gen", "tools"}));
  EXPECT_TRUE(told(nullptr)->workers[0].capabilities.empty());
  for (const boost::json::value& wrong : {boost::json::value("tools"), boost::json::value{1, 2},
                                          boost::json::value{"a b"}, boost::json::value(boost::json::array(17, "x"))})
    EXPECT_FALSE(told(wrong)) << boost::json::serialize(wrong);
}

TEST(Facts, figures_can_be_counted_with) {
  constexpr std::int64_t kPebibyte = 1'125'899'906'842'624;
  EXPECT_TRUE(beat(1, kPebibyte, {{"ram_total_mb", 64'000}, {"ram_used_mb", nullptr}}));
  for (const std::int64_t wrong : {kPebibyte + 1, INT64_MAX, std::int64_t{-1}, INT64_MIN}) {
    EXPECT_FALSE(beat(1, wrong)) << wrong;
    EXPECT_FALSE(beat(1, 0, {{"ram_total_mb", wrong}})) << wrong;
    EXPECT_FALSE(beat(1, 0, {{"ram_used_mb", wrong}})) << wrong;
  }
}

TEST(Facts, of_a_machine_only_what_is_known_is_kept) {
  const object gpu{{"id", "cuda:0"},    {"util_pct", 3},      {"temp_c", nullptr},
                   {"vram_used_mb", 1}, {"vram_total_mb", 2}, {"measured_s_ago", 0.5}};
  object told = gpu;
  told["notes"] = std::string(100'000, 'x');
  const auto kept = beat(
      0, 0,
      {{"cpu_pct", 1.5}, {"ram_total_mb", 7}, {"measured_s_ago", 1.5}, {"more", object{{"a", 1}}}, {"gpus", {told}}});
  ASSERT_TRUE(kept) << kept.error().message;
  EXPECT_EQ(kept->node, (object{{"cpu_pct", 1.5}, {"ram_total_mb", 7}, {"measured_s_ago", 1.5}, {"gpus", {gpu}}}));
  const boost::json::array many(65, gpu);
  for (const object& wrong :
       {object{{"gpus", many}}, object{{"gpus", {1}}}, object{{"cpu_pct", "x"}}, object{{"measured_s_ago", "x"}},
        object{{"gpus", {object{{"id", std::string(2000, 'x')}}}}}})
    EXPECT_FALSE(beat(0, 0, wrong)) << boost::json::serialize(wrong).substr(0, 80);
}

TEST(Facts, names_of_devices) {
  for (const char* gpu : {"cuda:3", "cuda3", "gpu:3", "gpu3"}) EXPECT_EQ(parse_device(gpu).value(), "cuda:3") << gpu;
  EXPECT_EQ(parse_device("cpu").value(), "cpu");
  EXPECT_EQ(parse_device("gpu").value(), "gpu");
  for (const char* wrong : {"", "cuda", "cuda:", "gpu-1", "gpu-0", "gpu:64", "gpu1x", "GPU0", "cpu0", "tpu:0",
                            "cuda::1", "gpu99999999999999999999"}) {
    const auto parsed = parse_device(wrong);
    ASSERT_FALSE(parsed) << wrong;
    EXPECT_NE(parsed.error().message.find("cuda:0"), std::string::npos);
  }
  EXPECT_TRUE(suits_device("", "cpu") && suits_device("gpu", "cuda:1") && suits_device("cuda:1", "cuda:1"));
  EXPECT_FALSE(suits_device("gpu", "cpu") || suits_device("cuda:1", "cuda:0") || suits_device("cpu", "cuda:0"));
  EXPECT_TRUE(runs_on("cuda", "cuda:0") && runs_on("cpu", "cpu") && runs_on("accelerate", "cpu"));
  EXPECT_FALSE(runs_on("cuda", "cpu") || runs_on("cpu", "cuda:0"));
}

TEST(Facts, why_nothing_can_run_on_a_device_is_passed_on) {
  Capabilities c;
  c.devices = {{"cuda:0", "NVIDIA L4", "gpu", 10, 5, "8.9", "01:00", {}, "it is lost"}, {"cpu", "x", "cpu"}};
  const auto read = read_capabilities(to_json(c));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->devices[0].problem, "it is lost");
  EXPECT_EQ(read->devices[1].problem, "");
}

}  // namespace
}  // namespace llorch::colony
