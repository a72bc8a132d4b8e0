#include "hive/queens.h"

#include <gtest/gtest.h>

namespace llorch::hive {
namespace {

TEST(Queens, the_next_one_is_spoken_to_when_one_does_not_answer) {
  Queens q("http://a:1,http://b:2");
  EXPECT_EQ(q.now(), "http://a:1");
  q.next();
  EXPECT_EQ(q.now(), "http://b:2");
  q.next();
  EXPECT_EQ(q.now(), "http://a:1");
  Queens none("");
  none.next();
  EXPECT_FALSE(none.any());
  EXPECT_EQ(none.now(), "");
}

TEST(Queens, what_is_learnt_comes_behind_what_was_given_and_goes_again) {
  Queens q("http://a:1");
  EXPECT_TRUE(q.learn({"http://b:2", "http://a:1", "http://c:3"}));
  EXPECT_FALSE(q.learn({"http://c:3", "http://b:2"})) << "the same, in another order";
  q.next();
  EXPECT_EQ(q.now(), "http://b:2");
  EXPECT_FALSE(q.learn({"http://c:3"})) << "whom it speaks to stays";
  EXPECT_EQ(q.now(), "http://b:2");
  q.next();
  EXPECT_EQ(q.now(), "http://c:3");
  EXPECT_TRUE(q.learn({"http://c:3"})) << "and is forgotten when it speaks to another";
  q.next();
  EXPECT_EQ(q.now(), "http://a:1");
  q.next();
  EXPECT_EQ(q.now(), "http://c:3");
}

TEST(Queens, an_address_that_would_lead_elsewhere_is_not_learnt) {
  Queens secure("https://a:1");
  EXPECT_FALSE(secure.learn({"http://b:2", "nonsense", "", "https://127.0.0.1:8500"}));
  EXPECT_TRUE(secure.learn({"https://b:2"}));
  Queens here("http://127.0.0.1:1");
  EXPECT_TRUE(here.learn({"http://127.0.0.1:2"}));
  std::vector<std::string> many;
  for (int i = 0; i < 100; ++i) many.push_back("http://m:" + std::to_string(1000 + i));
  here.learn(many);
  std::size_t count = 0;
  for (const std::string first = here.now(); count == 0 || here.now() != first; here.next()) ++count;
  EXPECT_EQ(count, Queens::kMax);
}

}  // namespace
}  // namespace llorch::hive
