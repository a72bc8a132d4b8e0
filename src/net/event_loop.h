// One thread on which everything of a daemon happens that is not computing: sockets, timers, jobs (W-20).
//
// run() makes the calling thread the loop's until stop(). post() may be called from any thread; all else belongs to the
// loop's thread. The sockets themselves are behind HttpServer and HttpClient: no other module sees Asio.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace llorch::net {

using Clock = std::chrono::steady_clock;
class TlsClient;

/// What no turn should take: everything else of the daemon waits meanwhile.
inline constexpr std::chrono::milliseconds kSlowTurn{20};

class EventLoop {
 public:
  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// A handler that throws is told to `on_fault`, and the loop goes on; without one the exception leaves run().
  void run();
  std::function<void(const char* what)> on_fault;
  /// What turns (one handler each) have taken, measured as turn_watch.h says. Any thread may read.
  struct Turns {
    std::chrono::microseconds longest{0};
    std::uint64_t slow = 0;  // those above the limit
  };
  [[nodiscard]] Turns turns() const { return {std::chrono::microseconds(longest_turn_us_), slow_turns_}; }
  /// `on_slow` is called after each turn above `limit`, with what the turn said that it does. Before run(). Without a
  /// call slow turns are those above kSlowTurn.
  void watch_turns(std::chrono::microseconds limit,
                   std::function<void(std::chrono::microseconds, std::string_view what)> on_slow);
  /// What the turn that runs now does, for whoever reads of it (at most 64 characters are kept).
  void doing(std::string_view what) { doing_ = what.substr(0, 64); }
  /// From any thread: run() returns after the handler that runs now.
  void stop();
  /// From any thread: runs `task` on the loop's thread, in order of posting.
  void post(std::function<void()> task);
  [[nodiscard]] bool on_loop() const;

  /// A task that can be posted without memory, for what must be told when there is none. Made and destroyed on the
  /// loop's thread, or before it runs; after that the task is not run any more.
  class ReservedPost {
   public:
    ReservedPost() = default;
    ReservedPost(EventLoop& loop, std::function<void()> task);
    ReservedPost(ReservedPost&&) noexcept = default;
    ReservedPost& operator=(ReservedPost&&) = delete;
    ~ReservedPost();
    /// From any thread, in order of posting. Nothing happens while it waits to be run.
    void post() noexcept;

   private:
    struct State;
    std::shared_ptr<State> state_;
  };

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

  /// What calls over https show and believe that say nothing of it themselves.
  void set_tls_client(std::shared_ptr<const TlsClient> client);
  [[nodiscard]] const std::shared_ptr<const TlsClient>& tls_client() const { return tls_client_; }
  /// Calls from now on make connections of their own, and use none that was kept.
  void leave_connections();

  struct Impl;
  [[nodiscard]] Impl& impl() { return *impl_; }

 private:
  void run_turns();
  std::unique_ptr<Impl> impl_;
  std::shared_ptr<const TlsClient> tls_client_;
  std::chrono::microseconds turn_limit_ = kSlowTurn;
  std::atomic<std::int64_t> longest_turn_us_ = 0;
  std::atomic<std::uint64_t> slow_turns_ = 0;
  std::function<void(std::chrono::microseconds, std::string_view)> on_slow_;
  std::string doing_;
};

}  // namespace llorch::net
