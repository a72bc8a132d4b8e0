// What is taken of a heartbeat: lists and figures have bounds, for the queen counts with them.
#include "colony/facts.h"

#include <gtest/gtest.h>

namespace llorch::colony {
namespace {

using boost::json::object;

object worker(std::int64_t memory) {
  return {{"worker_id", "w"}, {"model_ref", "m"}, {"device", "cpu"}, {"kind", "cpu"},
          {"state", "ready"}, {"pid", 1},         {"port", 1},       {"memory_bytes", memory}};
}
Result<HiveBeat> beat(std::size_t workers, std::int64_t memory = 0, object node = {}) {
  boost::json::array list;
  for (std::size_t i = 0; i < workers; ++i) list.push_back(worker(memory));
  return read_beat(object{{"hive_id", "a"}, {"url", "http://a"}, {"version", "1"}, {"node", node}, {"workers", list}});
}

TEST(Facts, a_hive_has_a_bounded_number_of_workers) {
  EXPECT_TRUE(beat(512));
  const auto more = beat(513);
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, ErrorCode::kInvalidRequest);
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

}  // namespace
}  // namespace llorch::colony
