#include "net/event_loop.h"

#include <fmt/format.h>

#include <cstddef>
#include <exception>
#include <new>
#include <utility>

#include "base/thread_role.h"
#include "base/thread_slice.h"
#include "net/asio.h"
#include "net/curl_loop.h"
#include "net/inbox.h"
#include "net/last_signal.h"
#include "net/operation_memory.h"
#include "net/resolver.h"
#include "net/turn_watch.h"

namespace llorch::net {

EventLoop::Impl::Impl(EventLoop& loop) : inbox(std::make_unique<Inbox>(loop, io, thread)) {}
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
  if (!resolver_) resolver_ = std::make_unique<Resolver>(*inbox);
  return *resolver_;
}

EventLoop::EventLoop() : impl_(std::make_unique<Impl>(*this)), poster_(std::make_shared<Poster::Shared>()) {
  poster_->loop = this;
}
EventLoop::~EventLoop() {
  const std::lock_guard lock(poster_->mutex);
  poster_->loop = nullptr;
}

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
  doing_bytes_ = 0, where_ = {};  // of a handler that threw
  TurnWatch watch(on_slow_ ? TurnWatch::Time::kOwn : TurnWatch::Time::kWall, turn_limit_);
  for (watch.arm(); impl_->io.run_one() > 0; watch.arm()) {
    const Turn turn = watch.turn();
    const auto took = std::chrono::duration_cast<std::chrono::microseconds>(turn.took);
    if (took.count() > longest_turn_us_) longest_turn_us_ = took.count();
    if (took > turn_limit_) {
      ++slow_turns_;
      if (on_slow_) report_slow(turn);
    }
    doing_bytes_ = 0, where_ = {};
  }
}

void EventLoop::report_slow(const Turn& turn) const {
  std::string what(doing_, doing_bytes_);
  if (where_.line() != 0) {
    const std::string_view file = where_.file_name();
    what += fmt::format("{}{}:{}", what.empty() ? "" : " ", file.substr(file.rfind('/') + 1), where_.line());
  }
  on_slow_(turn, what.empty() ? turn.operation : std::string_view(what));
}

void EventLoop::watch_turns(std::chrono::microseconds limit, OnSlow on_slow) {
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
void EventLoop::post(std::function<void()> task, Where where) { impl_->inbox->post(std::move(task), where); }

void EventLoop::Poster::post(std::function<void()> task, Where where) const {
  const std::shared_lock lock(shared_->mutex);
  if (shared_->loop) shared_->loop->post(std::move(task), where);
}

struct EventLoop::ReservedPost::State final : Inbox::Task {
  State(EventLoop& l, std::function<void()> t, Where w) : loop(l), task(std::move(t)), where(w) {}
  void run() override {
    const auto self = std::move(posted);
    waits = false;
    loop.doing(where);
    if (task) task();
  }
  void drop() noexcept override { const auto self = std::move(posted); }
  EventLoop& loop;
  std::function<void()> task;
  Where where;
  std::atomic<bool> waits = false;
  std::shared_ptr<State> posted;  // itself, while it waits
};

EventLoop::ReservedPost::ReservedPost(EventLoop& loop, std::function<void()> task, Where where)
    : state_(std::make_shared<State>(loop, std::move(task), where)) {}
EventLoop::ReservedPost::~ReservedPost() {
  if (state_) state_->task = nullptr;
}
void EventLoop::ReservedPost::post() noexcept {
  if (state_->waits.exchange(true)) return;
  state_->posted = state_;
  state_->loop.impl().inbox->push(state_.get());
}

bool EventLoop::on_loop() const { return impl_->thread.load() == std::this_thread::get_id(); }

EventLoop::Timer EventLoop::after(Clock::duration delay, std::function<void()> task, Where where) {
  struct State {
    asio::steady_timer timer;
    std::function<void()> task;
  };
  auto state = std::make_shared<State>(State{asio::steady_timer(impl_->io, delay), std::move(task)});
  state->timer.async_wait([this, where, weak = std::weak_ptr<State>(state)](const error_code& problem) {
    const auto alive = weak.lock();
    if (problem || !alive) return;
    doing(where);
    alive->task();
  });
  Timer timer;
  timer.state_ = std::move(state);
  return timer;
}

static std::atomic<int> last_signal_number = 0;

int last_signal() { return last_signal_number; }

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
      self->impl.signals.async_wait(self->memory.in([self](const error_code& problem, int number) {
        if (problem) return;
        last_signal_number = number;
        wait(self);  // first: nor must one whose task throws
        self->task(++self->count);
      }));
    }
  };
  Again::wait(std::make_shared<Again>(*impl_, std::move(task)));
}

}  // namespace llorch::net
