// A thread that wakes the event loop is often preempted by it at that moment, and then waits for a processor as long as
// others have it. What it holds meanwhile is held all that time: the loop must not need it.
//
// This program has an epoll_ctl() and a pthread_mutex_unlock() of its own. With the first Asio wakes its loop; Asio
// holds a lock of its own then, and when it lets go of that the thread pauses here as if it were preempted.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>

#include <atomic>
#include <memory>
#include <utility>

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
thread_local bool has_woken = false;

void pause_if_preempted() {
  if (!std::exchange(has_woken, false)) return;
  (void)poll(nullptr, 0, 100);
}

}  // namespace
}  // namespace llorch::service

extern "C" int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  static std::atomic<decltype(&pthread_mutex_unlock)> known;  // another initialization would lock
  auto real = known.load();
  if (!real) known = real = reinterpret_cast<decltype(real)>(dlsym(RTLD_NEXT, "pthread_mutex_unlock"));
  const int outcome = real(mutex);
  llorch::service::pause_if_preempted();
  return outcome;
}
extern "C" int epoll_ctl(int epoll, int what, int descriptor, epoll_event* event) noexcept {
  static const auto real = reinterpret_cast<decltype(&epoll_ctl)>(dlsym(RTLD_NEXT, "epoll_ctl"));
  const int outcome = real(epoll, what, descriptor, event);
  using namespace llorch::service;
  if (llorch::thread_role() == llorch::ThreadRole::kHelper && what == EPOLL_CTL_MOD && pauses_left.fetch_sub(1) > 0)
    has_woken = true;
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
