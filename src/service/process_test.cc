// A child process: its end is seen whoever else holds its pipe, and nobody waits for it to die.
#include "service/process.h"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <optional>

namespace llorch::service {
namespace {

using std::chrono::seconds;

ProcessOptions shell(const std::string& script) {
  ProcessOptions o;
  o.arguments = {"/bin/sh", "-c", script};
  return o;
}

/// Runs the loop until `done`, at most so long.
template<class Done>
bool run_until(net::EventLoop& loop, Done done, seconds most = seconds(10)) {
  bool in_time = true;
  std::function<void()> look = [&] {
    if (done()) loop.stop();
  };
  std::vector<net::EventLoop::Timer> timers;
  std::function<void()> again = [&] {
    look();
    timers.push_back(loop.after(std::chrono::milliseconds(10), again));
  };
  again();
  const auto limit = loop.after(most, [&] { in_time = false, loop.stop(); });
  loop.run();
  return in_time;
}

TEST(Process, its_end_is_seen_though_a_child_of_it_keeps_the_pipe) {
  net::EventLoop loop;
  std::vector<std::string> lines;
  std::optional<int> code;
  const auto start = net::Clock::now();
  auto p = Process::start(
      loop, shell("sleep 20 & echo pid $!; exit 3"), [&](const std::string& line) { lines.push_back(line); },
      [&](int c) { code = c; });
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_TRUE(run_until(loop, [&] { return code.has_value(); })) << "the exit went unseen";
  EXPECT_EQ(code, 3);
  ASSERT_EQ(lines.size(), 1u) << "what it wrote is there before its end";
  EXPECT_LT(net::Clock::now() - start, seconds(9));
  kill(std::stoi(lines[0].substr(4)), SIGKILL);
}

TEST(Process, destroying_it_does_not_wait) {
  net::EventLoop loop;
  std::string line;
  auto p = Process::start(
      loop, shell("sleep 20 & echo $!; exec sleep 20"), [&](const std::string& l) { line = l; },
      [](int) { FAIL() << "no callback comes after the end"; });
  ASSERT_TRUE(p);
  ASSERT_TRUE(run_until(loop, [&] { return !line.empty(); }));
  const int pid = (*p)->pid();
  const auto start = net::Clock::now();
  p->reset();
  EXPECT_LT(net::Clock::now() - start, seconds(2)) << "the loop waited for what the child left behind";
  net::EventLoop after;
  EXPECT_TRUE(run_until(after, [&] { return kill(pid, 0) != 0; })) << "it is not reaped";
  kill(std::stoi(line), SIGKILL);
}

TEST(Process, stderr_is_thrown_away_where_that_was_asked_for) {
  net::EventLoop loop;
  std::string text;
  std::optional<int> code;
  ProcessOptions o = shell("echo bad >&2; echo good");
  o.with_stderr = false;
  auto p = Process::start(
      loop, std::move(o), [&](const std::string& l) { text += l; }, [&](int c) { code = c; });
  ASSERT_TRUE(p);
  ASSERT_TRUE(run_until(loop, [&] { return code.has_value(); }));
  EXPECT_EQ(text, "good");
}

TEST(Process, programs_are_found_in_path) {
  EXPECT_TRUE(find_program("sh").ends_with("/sh"));
  EXPECT_EQ(find_program("no-such-program-here"), "");
}

}  // namespace
}  // namespace llorch::service
