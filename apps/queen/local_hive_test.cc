// The hive that a queen starts, by a program that stands for it.
#include "queen/local_hive.h"

#include <gtest/gtest.h>

#include <csignal>

namespace llorch::queen {
namespace {

using service::Procedure;

Procedure end(service::FlowPtr flow, LocalHive& hive, std::function<void()> done) {
  (void)co_await hive.stop(flow);
  done();
}

struct Machine {
  net::EventLoop loop;
  service::Gate gate{loop};
  std::vector<std::string> program{"/bin/sleep", "1000"};
  int started = 0;
  std::vector<int> exits;
  std::function<void()> on_exit = [] {};
  LocalHive hive{loop,
                 "mac",
                 {[this] {
                    ++started;
                    service::ProcessOptions o;
                    o.arguments = program;
                    return o;
                  },
                  [this](int code) { exits.push_back(code), on_exit(); }}};
};

TEST(LocalHive, is_started_once_and_told_to_end) {
  Machine m;
  ASSERT_TRUE(m.hive.start());
  ASSERT_TRUE(m.hive.start());
  EXPECT_EQ(m.started, 1) << "a running one is left alone";
  EXPECT_TRUE(m.hive.running());
  bool ended = false;
  end(m.gate.flow(), m.hive, [&] { ended = true, m.loop.stop(); });
  m.loop.run();
  EXPECT_TRUE(ended);
  EXPECT_FALSE(m.hive.running());
  EXPECT_EQ(m.exits, std::vector<int>{128 + SIGTERM});
  EXPECT_TRUE(m.hive.killed());
}

TEST(LocalHive, what_it_said_last_is_kept_and_another_may_follow) {
  Machine m;
  m.program = {"/bin/echo", R"({"message":"no port is free"})"};
  m.on_exit = [&] { m.loop.stop(); };
  ASSERT_TRUE(m.hive.start());
  m.loop.run();
  EXPECT_EQ(m.exits, std::vector<int>{0});
  EXPECT_EQ(m.hive.last_message(), "no port is free");
  m.program = {"/bin/echo", "terminate called"};
  ASSERT_TRUE(m.hive.start());
  m.loop.run();
  EXPECT_EQ(m.hive.last_message(), "terminate called") << "a line that is no record of ours";
  EXPECT_EQ(m.started, 2);
  m.program = {"/bin/true"};
  ASSERT_TRUE(m.hive.start());
  m.loop.run();
  EXPECT_EQ(m.hive.last_message(), "") << "what another one said is no reason of this one's";
  EXPECT_FALSE(m.hive.killed());
  m.program = {"/no/such/program"};
  EXPECT_FALSE(m.hive.start());
  EXPECT_FALSE(m.hive.running());
}

}  // namespace
}  // namespace llorch::queen
