// For the files of this module only: a coroutine that another one awaits, and whose memory may be short.
//
// Asio's own coroutines end the process where there is no memory for an operation: the destructor that unwinds them
// posts. Here whatever is thrown when an operation begins is thrown by `co_await` in the coroutine that waits.
//
// A task begins when it is awaited or started. Whoever holds it may destroy it while it waits, with all that it awaits.
#pragma once

#include <boost/system/error_code.hpp>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

namespace llorch::net {

namespace detail {

template<class T>
struct TaskResult {
  void return_value(T v) { value = std::move(v); }
  T take() { return *std::move(value); }
  std::optional<T> value;
};
template<>
struct TaskResult<void> {
  void return_void() {}
  void take() {}
};

}  // namespace detail

template<class T>
class [[nodiscard]] Task {
 public:
  struct promise_type;
  using Handle = std::coroutine_handle<promise_type>;

  struct promise_type : detail::TaskResult<T> {
    struct Final {
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(Handle h) noexcept { return h.promise().next; }
      void await_resume() noexcept {}
    };
    Task get_return_object() { return Task(Handle::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    Final final_suspend() noexcept { return {}; }
    void unhandled_exception() noexcept { thrown = std::current_exception(); }
    std::coroutine_handle<> next = std::noop_coroutine();
    std::exception_ptr thrown;
  };

  Task() = default;
  explicit Task(Handle h) : handle_(h) {}
  Task(Task&& o) noexcept : handle_(std::exchange(o.handle_, nullptr)) {}
  Task& operator=(Task&& o) noexcept {
    std::swap(handle_, o.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  /// Without anybody who awaits it: what it throws is lost.
  void start() { handle_.resume(); }

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> who) noexcept {
    handle_.promise().next = who;
    return handle_;
  }
  T await_resume() {
    if (handle_.promise().thrown) std::rethrow_exception(handle_.promise().thrown);
    return handle_.promise().take();
  }

 private:
  Handle handle_;
};

/// For co_await: an operation of Asio that `begin` begins when it is given the handler; its error, and how many bytes.
/// The operation holds `owner`, which holds the coroutine.
template<class Owner, class Begin>
auto ended(std::shared_ptr<Owner> owner, Begin begin) {
  struct Awaiter {
    std::shared_ptr<Owner> owner;
    Begin begin;
    boost::system::error_code problem = {};
    std::size_t size = 0;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> who) {
      begin([this, who, held = std::move(owner)](const boost::system::error_code& p, std::size_t n = 0) {
        problem = p, size = n;
        who.resume();
      });
    }
    std::pair<boost::system::error_code, std::size_t> await_resume() { return {problem, size}; }
  };
  return Awaiter{std::move(owner), std::move(begin)};
}

}  // namespace llorch::net
