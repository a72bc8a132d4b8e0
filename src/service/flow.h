// Long procedures of a daemon as coroutines on the event loop: what would be a chain of callbacks reads as steps.
//
// A procedure is a coroutine that returns Procedure and takes a FlowPtr. Each step (`co_await`) gives a Result and
// resumes from the loop, never from inside the operation that ended. cancel() makes the step under way, and all later
// ones, fail with the given error: procedures return at the first error, so they end soon. Threads: the event loop's.
//
// GCC 12 destroys an aggregate, or a lambda with captures, twice when it is made inside a co_await expression. Such
// arguments need a constructor or a name; functions here that take a callable take it by reference, so that a temporary
// does not compile.

#pragma once

#include <any>
#include <concepts>
#include <coroutine>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "net/event_loop.h"
#include "service/background.h"

namespace llorch::service {

/// The right to go on, shared by a procedure and whoever may cancel it.
class Flow {
 public:
  explicit Flow(net::EventLoop& loop) : loop_(loop) {}
  void cancel(Error why) {
    if (cancelled_) return;
    cancelled_ = std::move(why);
    if (const auto abort = std::exchange(abort_, nullptr)) abort(*cancelled_);
  }
  [[nodiscard]] const std::optional<Error>& cancelled() const { return cancelled_; }
  [[nodiscard]] net::EventLoop& loop() { return loop_; }
  /// Procedures of this thread that wait in a step: a daemon ends when there are none.
  [[nodiscard]] static int waiting() { return waiting_; }

 private:
  template<class T>
  friend class Step;
  static inline thread_local int waiting_ = 0;
  net::EventLoop& loop_;
  std::optional<Error> cancelled_;
  std::function<void(const Error&)> abort_;  // of the step under way
};
using FlowPtr = std::shared_ptr<Flow>;

/// Starts at once, and owns itself.
struct Procedure {
  struct promise_type {
    Procedure get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    [[noreturn]] void unhandled_exception() { std::terminate(); }
  };
};

template<class T>
class [[nodiscard]] Step {
 public:
  using Done = std::function<void(Result<T>)>;
  /// Begins the operation, which calls `done` once, from the loop's thread; what it returns lives until then.
  using Start = std::function<std::any(Done done)>;

  Step(FlowPtr flow, Start start) : state_(std::make_shared<State>(std::move(flow))), start_(std::move(start)) {}

  [[nodiscard]] bool await_ready() const { return state_->flow->cancelled_.has_value(); }
  void await_suspend(std::coroutine_handle<> handle) {
    const std::shared_ptr<State> state = state_;
    state->handle = handle;
    ++Flow::waiting_;
    state->flow->abort_ = [state](const Error& why) { State::finish(state, std::unexpected(why)); };
    std::any operation = start_([state](Result<T> result) { State::finish(state, std::move(result)); });
    if (!state->result) state->operation = std::move(operation);
  }
  Result<T> await_resume() {
    if (!state_->result) return std::unexpected(*state_->flow->cancelled_);
    return *std::move(state_->result);
  }

 private:
  struct State {
    explicit State(FlowPtr f) : flow(std::move(f)) {}
    static void finish(const std::shared_ptr<State>& state, Result<T> result) {
      if (state->result) return;
      state->result = std::move(result);
      state->flow->abort_ = nullptr;
      state->flow->loop().post([state] {
        state->operation.reset();
        --Flow::waiting_;
        state->handle.resume();
      });
    }
    FlowPtr flow;
    std::coroutine_handle<> handle;
    std::optional<Result<T>> result;
    std::any operation;
  };
  std::shared_ptr<State> state_;
  Start start_;
};

/// Goes on after so long.
inline Step<bool> pause(const FlowPtr& flow, net::Clock::duration time) {
  return {flow, [flow, time](Step<bool>::Done done) -> std::any {
            return std::make_shared<net::EventLoop::Timer>(flow->loop().after(time, [done] { done(true); }));
          }};
}

/// Before a daemon ends: whoever still waits in a step comes to its end first. Gives up after two seconds.
inline Procedure settle(FlowPtr flow, std::function<void()> then) {
  for (int i = 0; i < 200 && Flow::waiting() > 0; ++i) (void)co_await pause(flow, std::chrono::milliseconds(10));
  then();
}

namespace detail {
template<class Work, bool kCancellable>
struct ResultOf {
  using Type = std::invoke_result_t<Work&>;
};
template<class Work>
struct ResultOf<Work, true> {
  using Type = std::invoke_result_t<Work&, const Cancellation&>;
};
}  // namespace detail

/// Something has changed: procedures that wait look again.
class Signal {
 public:
  void notify() {
    for (const auto& waiter : std::exchange(waiters_, {}))
      if (const auto alive = waiter.lock()) (*alive)();
  }
  /// True when notified, false when `time` is over.
  Step<bool> wait(const FlowPtr& flow, net::Clock::duration time) {
    return {flow, [this, flow, time](const Step<bool>::Done& done) -> std::any {
              const auto waiter = std::make_shared<std::function<void()>>([done] { done(true); });
              waiters_.push_back(waiter);
              return std::pair(
                  waiter, std::make_shared<net::EventLoop::Timer>(flow->loop().after(time, [done] { done(false); })));
            }};
  }

 private:
  std::vector<std::weak_ptr<std::function<void()>>> waiters_;
};

/// Runs `work` on a background thread. It must have a name: see above. Work that takes a CancelFlag is cancelled with
/// the flow; other work is done also when the flow has gone on. Errors: those of Background besides.
template<class Work>
auto in_background(const FlowPtr& flow, Background& background, Work& work) {
  constexpr bool kCancellable = std::invocable<Work&, const Cancellation&>;
  using T = typename detail::ResultOf<Work, kCancellable>::Type;
  return Step<T>(flow, [&background, work](typename Step<T>::Done done) mutable -> std::any {
    const auto out = std::make_shared<std::optional<T>>();
    const Cancellation cancellation = kCancellable ? make_cancellation() : nullptr;
    auto body = [out, cancellation, work = std::move(work)]() mutable {
      if constexpr (kCancellable)
        *out = work(cancellation);
      else
        *out = work();
    };
    background.run({std::move(body),
                    [out, done = std::move(done)](const Status& s) {
                      if (s)
                        done(std::move(**out));
                      else
                        done(std::unexpected(s.error()));
                    },
                    {},
                    cancellation});
    if (!cancellation) return {};
    return std::shared_ptr<void>(nullptr, [&background, cancellation](void*) { background.cancel(cancellation); });
  });
}

}  // namespace llorch::service
