// What is told of a daemon that has ended.
#include "service/last_words.h"

#include <gtest/gtest.h>

namespace llorch::service {
namespace {

TEST(LastWords, TheLastErrorElseTheLastLine) {
  LastWords words;
  EXPECT_EQ(words.text(), "");
  words.take(R"({"level":"info","message":"starting"})");
  EXPECT_EQ(words.text(), "starting");
  words.take("error: INVALID_REQUEST: c.toml:3: 'x' is no setting");
  words.take("  see --help");
  words.take("");
  words.take(R"({"level":"info","message":"shutting down"})");
  EXPECT_EQ(words.text(), "INVALID_REQUEST: c.toml:3: 'x' is no setting");
  words.take(R"({"level":"error","message":"no port is free"})");
  EXPECT_EQ(words.text(), "no port is free");
  LastWords other;
  other.take("terminate called");
  EXPECT_EQ(other.text(), "terminate called");
  other.take(std::string(9000, 'x'));
  EXPECT_EQ(other.text().size(), 500u);
  other.take(std::string(499, 'x') + "\u00e4\u00e4");
  EXPECT_EQ(other.text(), std::string(499, 'x') + "\u00e4") << "cut between two characters";
  other.take(
      "a\xff"
      "b\xc3");
  EXPECT_EQ(other.text(), "ab");
}

}  // namespace
}  // namespace llorch::service
