// A thread that wakes the event loop is often preempted by it at that moment, and then waits for a processor as long as
// others have it. What it holds meanwhile is held all that time: the loop must not need it.
//
// This program has a write() of its own: a helper's thread that wakes its loop (with the eight bytes of an eventfd)
// pauses there as if it were preempted, before it has woken the loop or after.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <memory>
#include <thread>

#include "base/thread_role.h"
#include "service/background.h"
#include "service/test_process.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LLORCH_THREAD_SANITIZER  // it has functions of these names itself
#endif
#endif
#if !defined(__SANITIZE_THREAD__) && !defined(LLORCH_THREAD_SANITIZER)

namespace llorch::service {
namespace {

using namespace std::chrono_literals;

std::atomic<int> pauses_left = 0;
std::atomic<bool> before_it_wakes = false;

}  // namespace
}  // namespace llorch::service

extern "C" ssize_t write(int descriptor, const void* from, size_t bytes) {
  static std::atomic<decltype(&write)> known;  // another initialization would lock
  auto real = known.load();
  if (!real) known = real = reinterpret_cast<decltype(real)>(dlsym(RTLD_NEXT, "write"));
  using namespace llorch::service;
  const bool preempted =
      llorch::thread_role() == llorch::ThreadRole::kHelper && bytes == 8 && pauses_left.fetch_sub(1) > 0;
  const bool before = before_it_wakes;
  if (preempted && before) (void)poll(nullptr, 0, 200);
  const ssize_t outcome = real(descriptor, from, bytes);
  if (preempted && !before) (void)poll(nullptr, 0, 100);
  return outcome;
}

namespace llorch::service {
namespace {

/// The longest turn of a loop, from now on.
struct Watched {
  net::EventLoop loop;
  Watched() {
    loop.watch_turns(1h, [](const net::Turn&, std::string_view) {});
  }
  void expect_short() const {
    EXPECT_LE(pauses_left, 0) << "nobody was preempted";
    EXPECT_LT(loop.turns().longest, 50ms) << "a handler waited for a thread that had woken the loop";
  }
};

TEST(Preempted, a_background_thread_does_not_hold_up_who_gets_its_outcome) {
  Watched w;
  Background background(w.loop);
  const auto idle = w.loop.after(20ms, [&] {  // the thread finds the loop asleep
    pauses_left = 1;
    background.run([] { (void)poll(nullptr, 0, 20); }, [&](const Status&) { w.loop.stop(); });
  });
  w.loop.run();
  w.expect_short();
}

struct Later {
  net::EventLoop::Timer timer;
  std::jthread thread;
};
/// The outcome of a thread that has not woken the loop yet waits for it, and nothing else does.
void expect_others_come(
    const std::function<void(net::EventLoop&, Later&, const std::function<void()>& task)>& post_later) {
  Watched w;
  Background background(w.loop);
  before_it_wakes = true, pauses_left = 1;
  background.run([] {}, [](const Status&) {});
  const auto begun = net::Clock::now();
  net::Clock::duration took{};
  Later later;
  post_later(w.loop, later, [&] { took = net::Clock::now() - begun, w.loop.stop(); });
  w.loop.run();
  before_it_wakes = false;
  EXPECT_LE(pauses_left, 0) << "nobody was preempted";
  EXPECT_LT(took, 150ms) << "a task waited for a thread that had not woken the loop yet";
}

TEST(Preempted, who_has_not_woken_the_loop_yet_holds_up_no_task_of_the_loop) {
  expect_others_come([](net::EventLoop& loop, Later& later, const std::function<void()>& task) {
    later.timer = loop.after(50ms, [&loop, task] { loop.post(task); });
  });
}

TEST(Preempted, who_has_not_woken_the_loop_yet_holds_up_no_other_thread) {
  expect_others_come([](net::EventLoop& loop, Later& later, const std::function<void()>& task) {
    later.thread = std::jthread([&loop, task] {
      (void)poll(nullptr, 0, 50);
      loop.post(task);
    });
  });
}

TEST(Preempted, a_process_s_thread_does_not_hold_up_who_destroys_it_at_its_end) {
  Watched w;
  ProcessOptions o;
  o.arguments = {"/bin/sleep", "0.05"};
  std::unique_ptr<Process> process;
  auto started = start_process(w.loop, o, {}, [&](int) {
    w.loop.post([&] {  // not from its own callback
      process.reset();
      w.loop.stop();
    });
  });
  ASSERT_TRUE(started) << started.error().message;
  process = *std::move(started);
  pauses_left = 1;
  w.loop.run();
  w.expect_short();
}

}  // namespace
}  // namespace llorch::service

#endif
