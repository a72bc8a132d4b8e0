// One thread on which everything of a daemon happens that is not computing: sockets, timers, jobs (W-20).
//
// run() makes the calling thread the loop's until stop(). post() may be called from any thread; all else belongs to the
// loop's thread. The sockets themselves are behind HttpServer and HttpClient: no other module sees Asio.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace llorch::net {

using Clock = std::chrono::steady_clock;

class EventLoop {
 public:
  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  void run();
  /// From any thread: run() returns after the handler that runs now.
  void stop();
  /// From any thread: runs `task` on the loop's thread, in order of posting.
  void post(std::function<void()> task);
  [[nodiscard]] bool on_loop() const;

  /// Runs a task once, later, unless the Timer is destroyed before.
  class Timer {
   public:
    Timer() = default;
    Timer(Timer&&) noexcept = default;
    Timer& operator=(Timer&&) noexcept = default;
    ~Timer() = default;
    void cancel() { state_.reset(); }
    [[nodiscard]] bool armed() const { return state_ != nullptr; }

   private:
    friend class EventLoop;
    std::shared_ptr<void> state_;
  };
  [[nodiscard]] Timer after(Clock::duration delay, std::function<void()> task);
  /// `task` is called on SIGINT and SIGTERM, with how many came so far.
  void on_signals(std::function<void(int count)> task);

  struct Impl;
  [[nodiscard]] Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace llorch::net
