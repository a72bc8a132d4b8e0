// The hive that a queen starts, by a program that stands for it.
#include "queen/local_hive.h"

#include <gtest/gtest.h>

#include <csignal>
#include <optional>

namespace llorch::queen {
namespace {

using service::Procedure;

Procedure end(service::FlowPtr flow, LocalHive& hive, std::function<void()> done) {
  (void)co_await hive.stop(flow);
  done();
}

Procedure begin(service::FlowPtr flow, LocalHive& hive, std::function<void(Result<bool>)> done) {
  auto started = co_await hive.start(flow);
  done(std::move(started));
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
  /// Starts it, and runs the loop until that has been done.
  Result<bool> start() {
    std::optional<Result<bool>> out;
    begin(gate.flow(), hive, [&](Result<bool> r) { out = std::move(r), loop.stop(); });
    if (!out) loop.run();
    return *out;
  }
  void run_until(const std::function<bool()>& done) {
    for (const auto end = net::Clock::now() + std::chrono::seconds(10); !done() && net::Clock::now() < end;) {
      const auto look = loop.after(std::chrono::milliseconds(5), [this] { loop.stop(); });
      loop.run();
    }
    EXPECT_TRUE(done());
  }
};

TEST(LocalHive, is_started_once_and_told_to_end) {
  Machine m;
  ASSERT_TRUE(m.start());
  ASSERT_TRUE(m.start());
  EXPECT_EQ(m.started, 1) << "a running one is left alone";
  EXPECT_TRUE(m.hive.running());
  bool ended = false;
  end(m.gate.flow(), m.hive, [&] { ended = true, m.loop.stop(); });
  m.loop.run();
  EXPECT_TRUE(ended);
  EXPECT_FALSE(m.hive.running());
  EXPECT_EQ(m.exits, std::vector<int>{128 + SIGTERM});
  EXPECT_TRUE(m.hive.killed());
  EXPECT_EQ(m.hive.failure(), "it was ended by signal 15");
}

TEST(LocalHive, that_is_being_started_is_not_started_again_and_takes_its_signal_later) {
  Machine m;
  int answers = 0;
  for (int i = 0; i < 2; ++i)
    begin(m.gate.flow(), m.hive, [&](const Result<bool>& r) {
      EXPECT_TRUE(r) << r.error().message;
      ++answers;
    });
  EXPECT_TRUE(m.hive.running());
  m.hive.signal(SIGTERM);
  m.run_until([&] { return m.exits.size() == 1; });
  EXPECT_EQ(answers, 2);
  EXPECT_EQ(m.started, 1);
  EXPECT_EQ(m.exits, std::vector<int>{128 + SIGTERM});
}

TEST(LocalHive, is_started_also_when_nobody_waits_any_more) {
  Machine m;
  const auto flow = m.gate.flow();
  std::optional<Result<bool>> out;
  begin(flow, m.hive, [&](Result<bool> r) { out = std::move(r); });
  flow->cancel({ErrorCode::kCancelled, "nobody waits"});
  m.run_until([&] { return out.has_value(); });
  EXPECT_FALSE(*out);
  m.hive.signal(SIGTERM);
  m.run_until([&] { return !m.exits.empty(); });
  EXPECT_EQ(m.exits, std::vector<int>{128 + SIGTERM});
}

TEST(LocalHive, what_it_said_last_is_kept_and_another_may_follow) {
  Machine m;
  m.program = {"/bin/echo", R"({"message":"no port is free"})"};
  ASSERT_TRUE(m.start());
  m.run_until([&] { return m.exits.size() == 1; });
  EXPECT_EQ(m.exits, std::vector<int>{0});
  EXPECT_EQ(m.hive.last_message(), "no port is free");
  m.program = {"/bin/echo", "terminate called"};
  ASSERT_TRUE(m.start());
  m.run_until([&] { return m.exits.size() == 2; });
  EXPECT_EQ(m.hive.last_message(), "terminate called") << "a line that is no record of ours";
  EXPECT_EQ(m.started, 2);
  m.program = {"/bin/true"};
  ASSERT_TRUE(m.start());
  m.run_until([&] { return m.exits.size() == 3; });
  EXPECT_EQ(m.hive.last_message(), "") << "what another one said is no reason of this one's";
  EXPECT_FALSE(m.hive.killed());
  m.program = {"/no/such/program"};
  EXPECT_FALSE(m.start());
  EXPECT_FALSE(m.hive.running());
}

TEST(LocalHive, tells_whether_it_was_heard_and_why_it_failed) {
  Machine m;
  EXPECT_EQ(m.hive.failure(), "") << "none was started";
  m.program = {"/bin/true"};
  ASSERT_TRUE(m.start());
  EXPECT_FALSE(m.hive.was_heard());
  m.hive.heard();
  EXPECT_TRUE(m.hive.was_heard());
  m.run_until([&] { return m.exits.size() == 1; });
  EXPECT_EQ(m.hive.failure(), "");
  m.program = {"/bin/sh", "-c", "echo 'error: IO: no room' >&2; exit 1"};
  ASSERT_TRUE(m.start());
  EXPECT_FALSE(m.hive.was_heard()) << "it is another one";
  m.run_until([&] { return m.exits.size() == 2; });
  EXPECT_EQ(m.hive.failure(), "IO: no room");
  m.program = {"/bin/false"};
  ASSERT_TRUE(m.start());
  m.run_until([&] { return m.exits.size() == 3; });
  EXPECT_EQ(m.hive.failure(), "it ended with 1");
  m.program = {"/no/such/program"};
  EXPECT_FALSE(m.start());
  EXPECT_EQ(m.hive.failure(), "the program program is not there");
}

}  // namespace
}  // namespace llorch::queen
