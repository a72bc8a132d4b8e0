// Long procedures of a daemon as coroutines on the event loop: what would be a chain of callbacks reads as steps.
//
// A procedure is a coroutine that returns Procedure and takes a FlowPtr. Each step (`co_await`) gives a Result and
// resumes from the loop, never from inside the operation that ended. cancel() makes the step under way, and all later
// ones, fail at once with the given error: procedures return at the first error, so they end soon. One that goes on
// waiting in a loop after that would never give the loop back. Threads: the event loop's.
//
// GCC 12 destroys an aggregate, or a lambda with captures, twice when it is made inside a co_await expression. Such
// arguments need a constructor or a name; functions here that take a callable take it by reference, so that a temporary
// does not compile.

#pragma once

#include <any>
#include <concepts>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "net/event_loop.h"
#include "service/background.h"

namespace llorch::service {

class Gate;

/// The right to go on, shared by a procedure and whoever may cancel it. Made by a Gate.
class Flow : public std::enable_shared_from_this<Flow> {
 public:
  class Inside;  // what a gate has of its flows and procedures
  explicit Flow(std::shared_ptr<Inside> gate);
  ~Flow();
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;
  void cancel(Error why) {
    if (cancelled_) return;
    cancelled_ = std::move(why);
    if (const auto abort = std::exchange(abort_, nullptr)) abort(*cancelled_);
  }
  [[nodiscard]] const std::optional<Error>& cancelled() const { return cancelled_; }
  [[nodiscard]] net::EventLoop& loop() { return loop_; }
  [[nodiscard]] const std::shared_ptr<Inside>& gate() const { return gate_; }
  /// What its procedures do, for whoever reads of a slow turn of theirs.
  void set_name(std::string name) { name_ = std::move(name); }

 private:
  template<class T>
  friend class Step;
  friend class Gate;
  std::shared_ptr<Inside> gate_;
  net::EventLoop& loop_;
  std::uint64_t id_;
  std::string name_;
  std::optional<Error> cancelled_;
  std::function<void(const Error&)> abort_;  // of the step under way
  net::EventLoop::Timer limit_;
};
using FlowPtr = std::shared_ptr<Flow>;

/// Starts at once, and owns itself. The first argument says under which gate it lives: a FlowPtr, or what has one as
/// `flow`. An exception that leaves it is logged and ends it: whoever waits for its answer gets kInternal.
struct Procedure {
  class Ticket {
   public:
    explicit Ticket(const FlowPtr& flow);
    ~Ticket();
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;

   private:
    std::shared_ptr<Flow::Inside> gate_;
  };
  struct promise_type {
    template<class First, class... Rest>
    explicit promise_type(First& first, Rest&...) : ticket(flow_of(first)) {}
    Procedure get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() noexcept;
    /// A step, which remembers where the procedure goes on after it.
    template<class Step>
    Step await_transform(Step&& step, net::EventLoop::Where where = net::EventLoop::Where::current()) {
      step.goes_on_at(where);
      return std::forward<Step>(step);
    }
    static const FlowPtr& flow_of(const FlowPtr& flow) { return flow; }
    template<class T>
    static const FlowPtr& flow_of(const T& task) {
      return task->flow;
    }
    Ticket ticket;
  };
};

template<class T>
class [[nodiscard]] Step {
 public:
  using Done = std::function<void(Result<T>)>;
  /// Begins the operation, which calls `done` once, from the loop's thread; what it returns lives until then.
  using Start = std::function<std::any(Done done)>;

  Step(FlowPtr flow, Start start) : state_(std::make_shared<State>(std::move(flow))), start_(std::move(start)) {}

  void goes_on_at(const net::EventLoop::Where& where) { state_->where = where; }
  [[nodiscard]] bool await_ready() const { return state_->flow->cancelled_.has_value(); }
  void await_suspend(std::coroutine_handle<> handle) {
    const std::shared_ptr<State> state = state_;
    state->handle = handle;
    state->flow->abort_ = [state](const Error& why) { State::finish(state, std::unexpected(why)); };
    const auto answer = std::make_shared<Answer>(state);
    std::any operation = start_([answer](Result<T> result) { State::finish(answer->state, std::move(result)); });
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
        state->flow->loop_.doing(state->flow->name_);
        state->flow->loop_.doing(state->where);
        state->operation.reset();
        state->handle.resume();
      });
    }
    FlowPtr flow;
    net::EventLoop::Where where;
    std::coroutine_handle<> handle;
    std::optional<Result<T>> result;
    std::any operation;
  };
  /// What every copy of `done` shares: when the last one goes uncalled, the operation has died, and nobody waits for
  /// ever.
  struct Answer {
    explicit Answer(std::shared_ptr<State> s) : state(std::move(s)) {}
    ~Answer() {
      if (!state->result) State::finish(state, fail(ErrorCode::kInternal, "the work ended without an answer"));
    }
    Answer(const Answer&) = delete;
    Answer& operator=(const Answer&) = delete;
    std::shared_ptr<State> state;
  };
  std::shared_ptr<State> state_;
  Start start_;
};

/// What procedures live under. A daemon ends by closing its gate and waiting until nobody is inside: close() cancels
/// all flows, a flow that is made later is cancelled from the start, and errands end by their own limit.
class Gate {
 public:
  explicit Gate(net::EventLoop& loop);
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  [[nodiscard]] net::EventLoop& loop() const;
  [[nodiscard]] FlowPtr flow();
  /// A flow that close() does not cancel, but its limit does: for calling off work elsewhere, and for last reports.
  [[nodiscard]] FlowPtr errand(net::Clock::duration limit = std::chrono::seconds(5));
  /// Procedures that have not ended.
  [[nodiscard]] int inside() const;
  void close(const Error& why);
  /// Goes on when the gate is closed and the last procedure has ended. `flow` is of another gate.
  [[nodiscard]] Step<bool> empty(const FlowPtr& flow);
  /// The same for a callback, which comes from the loop.
  void when_empty(std::function<void()> then);

 private:
  std::shared_ptr<Flow::Inside> inside_;
};

/// Goes on after so long.
inline Step<bool> pause(const FlowPtr& flow, net::Clock::duration time) {
  return {flow, [flow, time](Step<bool>::Done done) -> std::any {
            return std::make_shared<net::EventLoop::Timer>(flow->loop().after(time, [done] { done(true); }));
          }};
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
/// the flow; other work is done also when the flow has gone on. `owner`: whose turn it takes. Errors: those of
/// Background besides.
template<class Work>
auto in_background(const FlowPtr& flow, Background& background, Work& work, const std::string& owner = {},
                   net::EventLoop::Where where = net::EventLoop::Where::current()) {
  constexpr bool kCancellable = std::invocable<Work&, const Cancellation&>;
  using T = typename detail::ResultOf<Work, kCancellable>::Type;
  return Step<T>(flow, [&background, work, owner, where](typename Step<T>::Done done) mutable -> std::any {
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
                    owner, cancellation, where});
    if (!cancellation) return {};
    return std::shared_ptr<void>(nullptr, [&background, cancellation](void*) { background.cancel(cancellation); });
  });
}

}  // namespace llorch::service
