// Where there is no memory, and where calls of the C library fail: this program has a dup2() of its own, that fails
// when a test says so.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <thread>

#include "base/ids.h"
#include "base/test_memory.h"
#include "service/log.h"
#include "service/process.h"
#include "service/test_process.h"

namespace llorch::service {
namespace {

using namespace std::chrono_literals;

int dup2_fails_for = -1;  // a descriptor that nothing can become

}  // namespace
}  // namespace llorch::service

extern "C" int dup2(int from, int to) noexcept {
  if (to != llorch::service::dup2_fails_for) return dup3(from, to, 0);
  errno = EMFILE;
  return -1;
}

namespace llorch::service {
namespace {

TEST(Memory, a_line_of_the_log_without_memory_is_lost_and_nothing_is_thrown) {  // 15.11
  LLORCH_NEEDS_OWN_NEW();
  int lines = 0;
  start_log("test", [&](const std::string&) { ++lines; });
  const std::string message(100, 'x');
  out_of_memory = true;
  EXPECT_NO_THROW(log(Level::kError, "fault", message));
  out_of_memory = false;
  EXPECT_EQ(lines, 0);
  log(Level::kError, "fault", message);
  EXPECT_EQ(lines, 1);
  stop_log();
}

TEST(Memory, a_process_whose_thread_has_none_goes_on_and_its_end_is_told) {  // 15.11
  LLORCH_NEEDS_OWN_NEW();
  net::EventLoop loop;
  std::optional<int> code;
  Result<std::unique_ptr<Process>> process = fail(ErrorCode::kInternal, "none");
  {
    const OthersWithoutMemory none;
    // More than its pipe holds.
    process = start_process(
        loop, {{"/bin/sh", "-c", "seq 100000; exit 3"}, {}, ""}, [](const std::string&) {},
        [&](int c) { code = c, loop.stop(); });
    ASSERT_TRUE(process) << process.error().message;
    const auto end = net::Clock::now() + 10s;
    while ((*process)->running() && net::Clock::now() < end) std::this_thread::yield();
    ASSERT_FALSE((*process)->running()) << "it waits for somebody to read its pipe";
    EXPECT_GT(none.failed(), 20'000);
  }
  const auto limit = loop.after(10s, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(code, 3);
}

/// A file that a program makes when it runs, in spite of all.
struct Mark {
  std::string path = testing::TempDir() + "ran-" + random_hex(4);
  [[nodiscard]] std::string script() const { return "echo it ran; : > " + path; }
  [[nodiscard]] bool there() const { return std::filesystem::exists(path); }
};

TEST(Failing, a_process_that_cannot_have_its_own_files_does_not_run) {  // 15.11
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    const Mark mark;
    dup2_fails_for = descriptor;
    const auto process = Process::start({{"/bin/sh", "-c", mark.script()}, {}, ""});
    dup2_fails_for = -1;
    EXPECT_FALSE(process) << descriptor;
    EXPECT_FALSE(mark.there()) << descriptor;
  }
}

TEST(Failing, a_program_that_cannot_be_given_its_files_is_not_run) {  // 15.11
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    const Mark mark;
    dup2_fails_for = descriptor;
    const auto ran = run_program({"/bin/sh", "-c", mark.script()}, -1, Stderr::kNone);
    dup2_fails_for = -1;
    EXPECT_FALSE(ran) << descriptor;
    EXPECT_FALSE(mark.there()) << descriptor;
  }
  const Mark mark;
  EXPECT_TRUE(run_program({"/bin/sh", "-c", mark.script()}, -1, Stderr::kNone));
  EXPECT_TRUE(mark.there());
  std::filesystem::remove(mark.path);
}

}  // namespace
}  // namespace llorch::service
