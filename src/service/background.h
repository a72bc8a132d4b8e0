// One thread for work that would hold up the event loop: parsing large bodies, templates, tokenizers, files.
//
// run(work, then): `work` on that thread, then `then` on the loop's. Bounded by what the callers admit. What was asked
// for before the end is done before the end: rows of a database among it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/thread_role.h"
#include "net/event_loop.h"

namespace llorch::service {

class Background {
 public:
  explicit Background(net::EventLoop& loop) : loop_(loop), thread_([this] { work(); }) {}
  ~Background() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  void run(std::function<void()> task, std::function<void()> then) {
    {
      const std::lock_guard lock(mutex_);
      queue_.emplace_back(std::move(task), std::move(then));
    }
    wake_.notify_one();
  }

 private:
  void work() {
    const InRole role(ThreadRole::kHelper);
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      auto [task, then] = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      task();
      task = nullptr;
      loop_.post(std::move(then));
      lock.lock();
    }
  }

  net::EventLoop& loop_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::pair<std::function<void()>, std::function<void()>>> queue_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace llorch::service
