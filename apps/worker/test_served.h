// A worker of the same process on a thread of its own, for tests that hold its parts.
#pragma once

#include <gtest/gtest.h>

#include <latch>
#include <thread>

#include "worker/worker.h"

namespace llorch::worker {

/// Local mode, builtin:haiku, one compute thread.
inline ServeOptions test_options() {
  ServeOptions o;
  o.local_mode = true;
  o.engine.model.path = "builtin:haiku";
  o.engine.model.threads = 1;
  return o;
}

class Served {
 public:
  explicit Served(ServeOptions options) : worker_(std::make_unique<Worker>(loop_, std::move(options))) {
    worker_->on_ready = [this] { ready_.count_down(); };
    EXPECT_TRUE(worker_->start());
    port_ = worker_->port();
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~Served() {
    loop_.stop();
    if (thread_.joinable()) thread_.join();
  }
  void wait_ready() { ready_.wait(); }
  [[nodiscard]] int port() const { return port_; }
  void shutdown() {
    loop_.post([this] { worker_->shutdown("the test"); });
  }
  /// Waits until the worker has ended its loop; its exit code.
  [[nodiscard]] int wait_end() {
    thread_.join();
    return worker_->exit_code();
  }
  /// After wait_end().
  void destroy() { worker_.reset(); }

 private:
  net::EventLoop loop_;
  std::latch ready_{1};
  std::unique_ptr<Worker> worker_;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace llorch::worker
