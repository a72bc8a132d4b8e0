// A child process: its end is seen whoever else holds its pipe, and nobody waits for it to die.
#include "service/process.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <fstream>
#include <optional>
#include <thread>

#include "base/thread_role.h"
#include "service/test_process.h"

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
  auto p = start_process(
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
  auto p = start_process(
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

/// Nobody has listened to it: a flow that was cancelled while it was started drops it so.
TEST(Process, that_nobody_listens_to_ends_with_its_owner) {
  auto p = Process::start(shell("exec sleep 20"));
  ASSERT_TRUE(p) << p.error().message;
  const int pid = (*p)->pid();
  EXPECT_EQ(kill(pid, 0), 0);
  p->reset();
  net::EventLoop after;
  EXPECT_TRUE(run_until(after, [&] { return kill(pid, 0) != 0; })) << "it lives on, or is not reaped";
}

TEST(Process, what_it_wrote_and_its_end_are_kept_for_who_listens_later) {
  auto p = Process::start(shell("echo early; exit 3"));
  ASSERT_TRUE(p) << p.error().message;
  siginfo_t ended{};
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>((*p)->pid()), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE((*p)->running()) << "its end is for who listens";
  net::EventLoop loop;
  std::vector<std::string> lines;
  std::optional<int> code;
  (*p)->listen(
      loop, [&](const std::string& line) { lines.push_back(line); }, [&](int c) { code = c; });
  EXPECT_TRUE(run_until(loop, [&] { return code.has_value(); }));
  EXPECT_EQ(lines, std::vector<std::string>{"early"});
  EXPECT_EQ(code, 3);
}

/// The kernel sends the signal of a parent's death when the thread ends that has started the child.
TEST(Process, outlives_the_thread_that_asked_for_it) {
  net::EventLoop loop;
  std::optional<int> code;
  Result<std::unique_ptr<Process>> p = fail(ErrorCode::kInternal, "none");
  std::thread([&] { p = Process::start(shell("sleep 0.2; exit 7")); }).join();
  ASSERT_TRUE(p) << p.error().message;
  (*p)->listen(loop, {}, [&](int c) { code = c; });
  EXPECT_TRUE(run_until(loop, [&] { return code.has_value(); }));
  EXPECT_EQ(code, 7);
}

TEST(Process, is_not_started_on_the_event_loop) {
  const auto on_loop = [](auto start) {
    const InRole role(ThreadRole::kLoop);
    (void)start();
  };
  EXPECT_DEATH(on_loop([] { return Process::start(shell("exit 0")); }), "must not block");
  EXPECT_DEATH(on_loop([] { return start_detached(shell("exit 0")); }), "must not block");
  EXPECT_DEATH(on_loop([] { return run_program({"/bin/true"}); }), "must not block");
}

/// The memory of a process is not copied to start another: the fork() of one that has a GiB takes 40 ms.
TEST(Process, is_started_without_a_copy_of_our_page_tables) {
  rusage before{}, after{};
  const std::vector<char> large(256u << 20, 1);
  const auto of_this_process = [](rusage& use) { ASSERT_EQ(getrusage(RUSAGE_SELF, &use), 0); };
  of_this_process(before);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(Process::start(shell("exit 0")));
  of_this_process(after);
  const auto system_us = [](const rusage& use) { return use.ru_stime.tv_sec * 1'000'000 + use.ru_stime.tv_usec; };
  EXPECT_LT(system_us(after) - system_us(before), 50'000) << large.size();
}

TEST(Process, stderr_is_thrown_away_where_that_was_asked_for) {
  net::EventLoop loop;
  std::string text;
  std::optional<int> code;
  ProcessOptions o = shell("echo bad >&2; echo good");
  o.with_stderr = false;
  auto p = start_process(
      loop, std::move(o), [&](const std::string& l) { text += l; }, [&](int c) { code = c; });
  ASSERT_TRUE(p);
  ASSERT_TRUE(run_until(loop, [&] { return code.has_value(); }));
  EXPECT_EQ(text, "good");
}

TEST(Process, programs_are_found_in_path) {
  EXPECT_TRUE(find_program("sh").ends_with("/sh"));
  EXPECT_EQ(find_program("no-such-program-here"), "");
}

TEST(RunProgram, both_streams_are_joined_and_a_program_that_is_not_there_is_told) {
  const auto ran = run_program({"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}, -1, Stderr::kJoined);
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->output, "out\nerr\n");
  EXPECT_EQ(ran->exit_code, 3);
  const auto none = run_program({"/no/such/program"}, -1, Stderr::kNone);
  ASSERT_FALSE(none);
  EXPECT_TRUE(none.error().message.contains("cannot run /no/such/program: No such file")) << none.error().message;
}

}  // namespace
}  // namespace llorch::service
