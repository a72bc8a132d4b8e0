#include "worker/throughput.h"

#include <gtest/gtest.h>

namespace llorch::worker {
namespace {

TEST(Throughput, idle_time_does_not_count_and_the_past_is_forgotten) {
  using std::chrono::seconds;
  const Throughput::Clock::time_point start{};
  Throughput t(start);
  EXPECT_EQ(t.out_per_s(), 0);
  t.sample(start + seconds(60), 0, 0, false);
  EXPECT_EQ(t.idle_s(start + seconds(60)), 60);
  t.sample(start + seconds(62), 200, 20, true);
  EXPECT_DOUBLE_EQ(t.in_per_s(), 100);
  EXPECT_DOUBLE_EQ(t.out_per_s(), 10);
  t.sample(start + seconds(100), 200, 20, false);
  EXPECT_DOUBLE_EQ(t.out_per_s(), 10);
  EXPECT_EQ(t.idle_s(start + seconds(100)), 38);
  for (int i = 1; i <= 20; ++i) t.sample(start + seconds(100 + i), 200, 20 + 5.0 * i, true);
  EXPECT_NEAR(t.out_per_s(), 5, 1e-9);
  EXPECT_NEAR(t.in_per_s(), 0, 1e-9);
  EXPECT_EQ(t.idle_s(start + seconds(120)), 0) << "a request is under way";
}

}  // namespace
}  // namespace llorch::worker
