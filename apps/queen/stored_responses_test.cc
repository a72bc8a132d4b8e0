#include "queen/stored_responses.h"

#include <gtest/gtest.h>

#include <string>

namespace llorch::queen {
namespace {

TEST(StoredResponses, are_their_keys_alone) {
  StoredResponses s;
  s.remember("alice", "r1", {"h", "w1", {}});
  ASSERT_TRUE(s.find("alice", "r1"));
  EXPECT_EQ(s.find("alice", "r1")->worker_id, "w1");
  EXPECT_FALSE(s.find("bob", "r1"));
  EXPECT_FALSE(s.find("alice", "r2"));
  s.erase("bob", "r1");
  EXPECT_TRUE(s.find("alice", "r1"));
  s.erase("alice", "r1");
  EXPECT_FALSE(s.find("alice", "r1"));
}

TEST(StoredResponses, the_oldest_go_first) {
  StoredResponses s;
  for (std::size_t i = 0; i < StoredResponses::kCountMax; ++i) s.remember("a", std::to_string(i), {"h", "w", {}});
  s.remember("a", "0", {"h", "again", {}});  // is the newest now
  s.remember("a", "more", {"h", "w", {}});
  EXPECT_EQ(s.find("a", "0")->worker_id, "again");
  EXPECT_FALSE(s.find("a", "1"));
  EXPECT_TRUE(s.find("a", "2"));
}

}  // namespace
}  // namespace llorch::queen
