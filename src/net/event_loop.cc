#include "net/event_loop.h"

#include <cstddef>
#include <exception>
#include <new>
#include <utility>

#include "base/thread_role.h"
#include "base/thread_slice.h"
#include "net/asio.h"
#include "net/curl_loop.h"
#include "net/operation_memory.h"
#include "net/resolver.h"
#include "net/turn_watch.h"

namespace llorch::net {

EventLoop::Impl::Impl() = default;
EventLoop::Impl::~Impl() = default;
std::shared_ptr<CurlLoop> EventLoop::Impl::curl_loop() {
  std::erase_if(left_, [](const auto& one) { return one->idle(); });
  if (!curl_loop_) curl_loop_ = std::make_shared<CurlLoop>(io);
  return curl_loop_;
}

void EventLoop::Impl::leave_connections() {
  std::erase_if(left_, [](const auto& one) { return one->idle(); });
  if (curl_loop_ && !curl_loop_->idle()) left_.push_back(std::move(curl_loop_));
  curl_loop_ = nullptr;
}
Resolver& EventLoop::Impl::resolver() {
  if (!resolver_) resolver_ = std::make_unique<Resolver>(io);
  return *resolver_;
}

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() = default;

void EventLoop::run() {
  const InRole role(ThreadRole::kLoop);
  ask_for_slice(kLoopSlice);
  impl_->thread = std::this_thread::get_id();
  impl_->io.restart();
  while (true) {
    try {
      return run_turns();
    } catch (const std::exception& e) {
      if (!on_fault) throw;
      try {
        on_fault(e.what());
      } catch (const std::exception&) {  // of memory: the loop goes on, told or not
      }
    }
  }
}

void EventLoop::run_turns() {
  TurnWatch watch(on_slow_ ? TurnWatch::Time::kOwn : TurnWatch::Time::kWall);
  for (watch.arm(); impl_->io.run_one() > 0; watch.arm()) {
    const auto took = std::chrono::duration_cast<std::chrono::microseconds>(watch.turn());
    if (took.count() > longest_turn_us_) longest_turn_us_ = took.count();
    if (took > turn_limit_) {
      ++slow_turns_;
      if (on_slow_) on_slow_(took, doing_);
    }
    doing_.clear();
  }
}

void EventLoop::watch_turns(std::chrono::microseconds limit,
                            std::function<void(std::chrono::microseconds, std::string_view)> on_slow) {
  turn_limit_ = limit;
  on_slow_ = std::move(on_slow);
}
void EventLoop::set_tls_client(std::shared_ptr<const TlsClient> client) {
  if (client == tls_client_) return;
  tls_client_ = std::move(client);
  leave_connections();
}
void EventLoop::leave_connections() { impl_->leave_connections(); }
void EventLoop::stop() { impl_->io.stop(); }
void EventLoop::post(std::function<void()> task) { asio::post(impl_->io, std::move(task)); }

struct EventLoop::ReservedPost::State {
  State(asio::io_context& i, std::function<void()> t) : io(i), task(std::move(t)) {}
  asio::io_context& io;
  std::function<void()> task;
  std::atomic<bool> waits = false;
  OperationMemory memory;
};

EventLoop::ReservedPost::ReservedPost(EventLoop& loop, std::function<void()> task)
    : state_(std::make_shared<State>(loop.impl().io, std::move(task))) {}
EventLoop::ReservedPost::~ReservedPost() {
  if (state_) state_->task = nullptr;
}
void EventLoop::ReservedPost::post() noexcept {
  if (state_->waits.exchange(true)) return;
  asio::post(state_->io, state_->memory.in([state = state_] {
    state->waits = false;
    if (state->task) state->task();
  }));
}

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
    Again(Impl& i, std::function<void(int)> t) : impl(i), task(std::move(t)) {}
    Impl& impl;
    std::function<void(int)> task;
    int count = 0;
    OperationMemory memory;  // a signal that finds none must not be the last that is told
    static void wait(const std::shared_ptr<Again>& self) {
      self->impl.signals.async_wait(self->memory.in([self](const error_code& problem, int) {
        if (problem) return;
        wait(self);  // first: nor must one whose task throws
        self->task(++self->count);
      }));
    }
  };
  Again::wait(std::make_shared<Again>(*impl_, std::move(task)));
}

}  // namespace llorch::net
