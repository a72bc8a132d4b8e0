#include "net/event_loop.h"

#include <algorithm>
#include <ctime>
#include <exception>
#include <utility>

#include "base/thread_role.h"
#include "net/asio.h"

namespace llorch::net {

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() = default;

void EventLoop::run() {
  const InRole role(ThreadRole::kLoop);
  impl_->thread = std::this_thread::get_id();
  impl_->io.restart();
  while (true) {
    try {
      if (turn_limit_.count() > 0)
        run_watched();
      else
        impl_->io.run();
      return;
    } catch (const std::exception& e) {
      if (!on_fault) throw;
      on_fault(e.what());
    }
  }
}

void EventLoop::run_watched() {
  const auto cpu = [] {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::chrono::microseconds(t.tv_sec * 1'000'000 + t.tv_nsec / 1000);
  };
  for (auto start = cpu(); impl_->io.run_one() > 0;) {
    const auto end = cpu(), took = end - std::exchange(start, end);
    longest_turn_ = std::max(longest_turn_, took);
    if (took > turn_limit_ && on_slow_) {
      on_slow_(took, doing_);
      start = cpu();  // the telling does not count
    }
    doing_.clear();
  }
}

void EventLoop::watch_turns(std::chrono::microseconds limit,
                            std::function<void(std::chrono::microseconds, std::string_view)> on_slow) {
  turn_limit_ = limit;
  on_slow_ = std::move(on_slow);
}
void EventLoop::stop() { impl_->io.stop(); }
void EventLoop::post(std::function<void()> task) { asio::post(impl_->io, std::move(task)); }
bool EventLoop::on_loop() const { return impl_->thread.load() == std::this_thread::get_id(); }

EventLoop::Timer EventLoop::after(Clock::duration delay, std::function<void()> task) {
  struct State {
    asio::steady_timer timer;
    std::function<void()> task;
  };
  auto state = std::make_shared<State>(State{asio::steady_timer(impl_->io, delay), std::move(task)});
  state->timer.async_wait([weak = std::weak_ptr<State>(state)](const error_code& problem) {
    const auto alive = weak.lock();
    if (!problem && alive) alive->task();
  });
  Timer timer;
  timer.state_ = std::move(state);
  return timer;
}

void EventLoop::on_signals(std::function<void(int count)> task) {
  impl_->signals.add(SIGINT);
  impl_->signals.add(SIGTERM);
  struct Again {
    Impl& impl;
    std::function<void(int)> task;
    int count = 0;
    static void wait(const std::shared_ptr<Again>& self) {
      self->impl.signals.async_wait([self](const error_code& problem, int) {
        if (problem) return;
        self->task(++self->count);
        wait(self);
      });
    }
  };
  Again::wait(std::make_shared<Again>(Again{*impl_, std::move(task)}));
}

}  // namespace llorch::net
