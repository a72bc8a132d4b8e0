// A worker whose engine hangs says so, and one whose loading is no longer wanted ends.
#include <gtest/gtest.h>

#include <future>

#include "base/test_memory.h"
#include "base/test_own_new.h"
#include "service/exit_deadline.h"
#include "worker/test_served.h"
#include "worker/test_socket.h"

namespace llorch::worker {
namespace {

using namespace std::chrono_literals;

TEST(Stuck, health_names_the_engine_that_does_not_come_back) {
  std::promise<void> opened;
  const auto open = opened.get_future().share();
  std::atomic<bool> hold = false;
  ServeOptions options = test_options();
  options.engine_stuck_after = 50ms;
  options.engine.before_step = [&] {
    if (hold) open.wait();
  };
  Served served(options);
  served.wait_ready();
  const auto health = [&] { return get_until(served.port(), "/health", [](const std::string&) { return false; }); };
  EXPECT_TRUE(health().starts_with("HTTP/1.1 200"));
  hold = true;
  std::string seen;
  const auto until = net::Clock::now() + 20s;
  while (net::Clock::now() < until && !(seen = health()).starts_with("HTTP/1.1 503")) {
  }
  EXPECT_TRUE(seen.contains(R"("status":"unhealthy")")) << seen;
  EXPECT_TRUE(seen.contains(R"("stuck":"engine")")) << seen;
  hold = false;
  opened.set_value();
  while (net::Clock::now() < until && !(seen = health()).starts_with("HTTP/1.1 200")) {
  }
  EXPECT_TRUE(seen.starts_with("HTTP/1.1 200")) << seen;
}

TEST(Stuck, an_exception_in_a_step_ends_requests_and_worker_in_order) {
  ServeOptions options = test_options();
  std::atomic<bool> fault = false;
  options.engine.before_step = [&] {
    if (fault) throw std::runtime_error("a fault");
  };
  Served served(options);
  served.wait_ready();
  fault = true;
  const std::string answer =
      post(served.port(), "/v1/completions", R"({"model":"builtin:haiku","prompt":"a","max_tokens":3})");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 500")) << answer;
  EXPECT_TRUE(answer.contains("INTERNAL")) << answer;
  EXPECT_EQ(served.wait_end(), 1);
}

TEST(Stuck, an_engine_s_thread_that_finds_no_memory_to_say_so_ends_requests_and_worker_in_order) {
  LLORCH_NEEDS_OWN_NEW();
  ServeOptions options = test_options();
  std::atomic<bool> fault = false;
  options.engine.before_step = [&] {
    if (!fault) return;
    out_of_memory = true;
    throw std::bad_alloc();
  };
  Served served(options);
  served.wait_ready();
  fault = true;
  const std::string answer =
      post(served.port(), "/v1/completions", R"({"model":"builtin:haiku","prompt":"a","max_tokens":3})");
  EXPECT_TRUE(answer.contains("INSUFFICIENT_MEMORY") && answer.contains("not enough memory")) << answer;
  EXPECT_EQ(served.wait_end(), 1);
}

TEST(Stuck, loading_that_finds_no_memory_to_say_so_ends_the_worker_in_order) {
  LLORCH_NEEDS_OWN_NEW();
  ServeOptions options = test_options();
  options.engine.model.progress = [&](const LoadProgress&) {
    out_of_memory = true;
    throw std::bad_alloc();
  };
  Served served(options);
  EXPECT_EQ(served.wait_end(), 1);
}

TEST(StuckDeathTest, the_deadline_of_the_end_needs_no_memory) {
  LLORCH_NEEDS_OWN_NEW();
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        service::ExitDeadline end;
        end.arm(20ms, [] { return out_of_memory = true, 7; });
        std::promise<void>().get_future().wait();
      },
      testing::ExitedWithCode(7), "");
}

TEST(Stuck, the_end_does_not_wait_for_loading) {
  ServeOptions options = test_options();
  std::promise<void> begun, opened;
  const auto open = opened.get_future().share();
  std::atomic<int> tensors = 0;
  options.engine.model.progress = [&](const LoadProgress&) {
    if (++tensors == 2) begun.set_value(), open.wait();
  };
  Served served(options);
  begun.get_future().wait();
  EXPECT_TRUE(post(served.port(), "/v1/shutdown", "{}").starts_with("HTTP/1.1 202"));
  EXPECT_EQ(served.wait_end(), 0);
  opened.set_value();
  served.destroy();
  EXPECT_LE(tensors, 4) << "the rest of the model was loaded for nobody";
}

}  // namespace
}  // namespace llorch::worker
