// One thread on which everything of a daemon happens that is not computing: sockets, timers, jobs (W-20).
//
// run() makes the calling thread the loop's until stop(). post() may be called from any thread; all else belongs to the
// loop's thread. The sockets themselves are behind HttpServer and HttpClient: no other module sees Asio.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <source_location>
#include <string>
#include <string_view>

namespace llorch::net {

using Clock = std::chrono::steady_clock;
class TlsClient;

/// What no turn should take: everything else of the daemon waits meanwhile.
inline constexpr std::chrono::milliseconds kSlowTurn{20};

/// What a turn took: turn_watch.h says how that is measured, and when the parts are known.
struct Turn {
  std::chrono::nanoseconds took{0};                          // what counts
  std::chrono::nanoseconds wall{0}, computed{0}, waited{0};  // by the clock; of that computing, and ready to
  long blocked = 0;                                          // how often the thread gave up the processor
  long major_faults = 0;                                     // pages that were read from a disk
  const char* operation = "";                                // Asio's, whose handler it was
  /// Processor time that the host took from all processors of the machine: during the turn, and at most the second
  /// before it.
  std::optional<std::chrono::milliseconds> stolen;
};

class EventLoop {
 public:
  using Where = std::source_location;
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
  /// `on_slow` is called after each turn above `limit`, with what it did: what it said, and the place in the source
  /// that it was begun from, or else the operation of Asio. Before run(). Without a call slow turns are those above
  /// kSlowTurn.
  using OnSlow = std::function<void(const Turn& turn, std::string_view what)>;
  void watch_turns(std::chrono::microseconds limit, OnSlow on_slow);
  /// What the turn that runs now does, for whoever reads of it (at most 64 characters are kept).
  void doing(std::string_view what) noexcept {
    if (!on_slow_) return;
    doing_bytes_ = std::min(what.size(), sizeof doing_);
    std::copy_n(what.begin(), doing_bytes_, doing_);
  }
  /// Where the turn that runs now was begun, or goes on.
  void doing(const Where& where) noexcept { where_ = where; }
  /// From any thread: run() returns after the handler that runs now.
  void stop();
  /// From any thread: runs `task` on the loop's thread, in order of posting.
  void post(std::function<void()> task, Where where = Where::current());
  [[nodiscard]] bool on_loop() const;

  /// post() for a thread that may outlive the loop: then nothing happens. The loop never waits for such a thread, which
  /// it often preempts at the moment when that has woken it; its destructor does.
  class Poster {
   public:
    explicit Poster(EventLoop& loop) : shared_(loop.poster_) {}
    void post(std::function<void()> task, Where where = Where::current()) const;

   private:
    friend class EventLoop;
    struct Shared {
      std::shared_mutex mutex;
      EventLoop* loop;  // null once it is gone
    };
    std::shared_ptr<Shared> shared_;
  };

  /// A task that can be posted without memory, for what must be told when there is none. Made and destroyed on the
  /// loop's thread, or before it runs; after that the task is not run any more.
  class ReservedPost {
   public:
    ReservedPost() = default;
    ReservedPost(EventLoop& loop, std::function<void()> task, Where where = Where::current());
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
  [[nodiscard]] Timer after(Clock::duration delay, std::function<void()> task, Where where = Where::current());
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
  void report_slow(const Turn& turn) const;
  std::unique_ptr<Impl> impl_;
  std::shared_ptr<Poster::Shared> poster_;
  std::shared_ptr<const TlsClient> tls_client_;
  std::chrono::microseconds turn_limit_ = kSlowTurn;
  std::atomic<std::int64_t> longest_turn_us_ = 0;
  std::atomic<std::uint64_t> slow_turns_ = 0;
  OnSlow on_slow_;
  char doing_[64]{};
  std::size_t doing_bytes_ = 0;
  Where where_;
};

}  // namespace llorch::net
