// Work that would hold up the event loop, on threads of its own: parsing large bodies, templates, tokenizers, files.
//
// A task's `work` runs on one of the threads; then its `then` runs on the loop's thread with the outcome. Owners (the
// key or the peer that a task is for) take turns; the tasks of one owner begin in the order of asking. With one thread
// they also end in that order: a database relies on it. Whoever needs another instance (files of its own, programs
// that may hang) makes another object.
// Long work of many owners runs in slices: it calls pause() often, which waits while other owners have a turn. A task
// that waits there keeps its thread and what it holds in memory, so `begun_max` bounds how many have begun.
// Errors, given to `then`: kInternal when the work threw, kInsufficientMemory when that was bad_alloc, kCancelled when
// it was cancelled before it began, kQueueFull when there was no room, kShuttingDown after close().
// Threads: run(), cancel() and close() on the loop's.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "net/event_loop.h"

namespace llorch::service {

/// Whoever waits for a task sets it; the work looks at it (base/work_limit.h takes it as its CancelFlag).
using Cancellation = std::shared_ptr<std::atomic<bool>>;
[[nodiscard]] inline Cancellation make_cancellation() { return std::make_shared<std::atomic<bool>>(false); }

struct BackgroundOptions {
  int threads = 1;            // tasks that run at the same time
  int threads_per_owner = 0;  // of them one owner's: what hangs holds up its like alone; 0: all
  int begun_max = 0;          // tasks that have begun, those that wait in pause() included; at least `threads`
  std::chrono::steady_clock::duration slice = std::chrono::milliseconds(20);  // between two turns of other owners
  std::size_t queue_max = 10'000, queue_per_owner_max = 10'000;               // tasks that wait
  int nice = 0;  // of the threads: long work beside short work of others gets a positive number
};

struct BackgroundTask {
  std::function<void()> work;
  std::function<void(const Status&)> then;
  std::string owner;          // whose turn it takes
  Cancellation cancellation;  // may be absent: then the task is done whatever happens, also after close()
  net::EventLoop::Where where = net::EventLoop::Where::current();  // what a slow turn of `then` is called
};

class Background {
 public:
  explicit Background(net::EventLoop& loop, BackgroundOptions options = {});
  /// close(), and waits for the threads. What still waits to be delivered is not: its receivers are going, too.
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  void run(BackgroundTask task);
  void run(std::function<void()> work, std::function<void(const Status&)> then,
           net::EventLoop::Where where = net::EventLoop::Where::current()) {
    run({std::move(work), std::move(then), {}, nullptr, where});
  }
  /// An error is logged.
  void run(std::function<void()> work);
  /// Called by a task's work: when its slice is over and another owner can go on, waits for the next turn. Elsewhere it
  /// does nothing.
  void pause();
  /// Sets the flag; its tasks that have not begun are dropped from the queue, those that run end at their next look.
  void cancel(const Cancellation& cancellation);
  /// Takes no more tasks and cancels all that can be; returns at once. The others are still done: rows of a database
  /// among them.
  void close();
  /// Tasks that have not ended.
  [[nodiscard]] std::size_t load() const;

 private:
  struct State;
  void end_threads();
  std::shared_ptr<State> state_;
  std::vector<std::thread> threads_;
};

}  // namespace llorch::service
