// Procedures as coroutines, and the gate under which they live.
#include "service/flow.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <new>
#include <optional>
#include <thread>

#include "net/test_turns.h"
#include "service/background.h"
#include "service/log.h"

namespace llorch::service {
namespace {

using namespace std::chrono_literals;

Procedure steps(FlowPtr flow, Signal& signal, Background& background, std::vector<std::string>& told,
                std::function<void()> done) {
  const auto paused = co_await pause(flow, 1ms);
  told.push_back(paused ? "paused" : "no");
  auto work = [word = std::string(100, 'x')] { return static_cast<int>(word.size()) - 58; };
  const auto worked = co_await in_background(flow, background, work);
  told.push_back(worked ? std::to_string(*worked) : "no");
  const auto early = co_await signal.wait(flow, 1ms);
  told.push_back(early && !*early ? "not notified" : "no");
  const auto late = co_await signal.wait(flow, 10s);
  told.push_back(late && *late ? "notified" : late ? "no" : std::string(name(late.error().code)));
  const auto after = co_await pause(flow, 1ms);
  told.push_back(after ? "paused" : after.error().message);
  done();
}

TEST(Flow, steps_follow_each_other) {
  net::EventLoop loop;
  Background background(loop);
  Signal signal;
  std::vector<std::string> told;
  Gate gate(loop);
  const auto flow = gate.flow();
  steps(flow, signal, background, told, [&] { loop.stop(); });
  const auto timer = loop.after(200ms, [&] { signal.notify(); });
  loop.run();
  EXPECT_EQ(told, (std::vector<std::string>{"paused", "42", "not notified", "notified", "paused"}));
}

TEST(Flow, cancelling_ends_the_step_under_way_and_all_later_ones) {
  net::EventLoop loop;
  Background background(loop);
  Signal signal;
  std::vector<std::string> told;
  Gate gate(loop);
  const auto flow = gate.flow();
  steps(flow, signal, background, told, [&] { loop.stop(); });
  const auto timer = loop.after(100ms, [&] { flow->cancel({ErrorCode::kCancelled, "enough"}); });
  loop.run();
  EXPECT_EQ(told, (std::vector<std::string>{"paused", "42", "not notified", "CANCELLED", "enough"}));
  signal.notify();  // nobody waits any more
}

Procedure cancellable(FlowPtr flow, Background& background, std::promise<void>& begun, std::atomic<bool>& seen) {
  auto work = [&](const Cancellation& cancelled) {
    begun.set_value();
    while (!*cancelled) std::this_thread::yield();
    seen = true;
    return true;
  };
  (void)co_await in_background(flow, background, work);
}

TEST(Flow, cancelling_ends_the_work_that_takes_a_flag) {
  net::EventLoop loop;
  std::promise<void> begun;
  std::atomic<bool> seen = false;
  {
    Background background(loop);
    Gate gate(loop);
    const auto flow = gate.flow();
    cancellable(flow, background, begun, seen);
    begun.get_future().wait();
    flow->cancel({ErrorCode::kCancelled, "enough"});
    const auto timer = loop.after(1ms, [&] { loop.stop(); });
    loop.run();
  }
  EXPECT_TRUE(seen);
}

Procedure throwing(FlowPtr flow, Background& background, std::optional<Error>& heard, std::function<void()> done) {
  auto work = []() -> int { throw std::bad_alloc(); };
  const auto result = co_await in_background(flow, background, work);
  if (!result) heard = result.error();
  done();
}

TEST(Flow, work_that_throws_is_a_step_that_fails) {
  net::EventLoop loop;
  Background background(loop);
  std::optional<Error> heard;
  Gate gate(loop);
  throwing(gate.flow(), background, heard, [&] { loop.stop(); });
  loop.run();
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->code, ErrorCode::kInsufficientMemory);
}

Procedure wait_long(FlowPtr flow, std::vector<std::string>& told, std::string name) {
  const auto paused = co_await pause(flow, 1h);
  told.push_back(name + (paused ? " paused" : " " + paused.error().message));
}

TEST(Gate, closing_cancels_everyone_and_is_over_when_the_last_has_left) {
  net::EventLoop loop;
  Gate gate(loop);
  std::vector<std::string> told;
  wait_long(gate.flow(), told, "a");
  wait_long(gate.flow(), told, "b");
  EXPECT_EQ(gate.inside(), 2);
  gate.when_empty([&] {
    EXPECT_EQ(gate.inside(), 0);
    wait_long(gate.flow(), told, "late");  // cancelled from the start: it does not even suspend
    EXPECT_EQ(gate.inside(), 0);
    loop.stop();
  });
  loop.post([&] { gate.close({ErrorCode::kShuttingDown, "closed"}); });
  loop.run();
  EXPECT_EQ(told, (std::vector<std::string>{"a closed", "b closed", "late closed"}));
}

TEST(Gate, an_errand_outlives_the_closing_but_not_its_limit) {
  net::EventLoop loop;
  Gate gate(loop);
  std::vector<std::string> told;
  wait_long(gate.errand(30ms), told, "errand");
  gate.close({ErrorCode::kShuttingDown, "closed"});
  const auto start = net::Clock::now();
  gate.when_empty([&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(told, (std::vector<std::string>{"errand the errand took too long"}));
  EXPECT_GE(net::Clock::now() - start, 30ms);
}

Procedure wait_for_gate(FlowPtr flow, Gate& gate, std::function<void()> done) {
  const auto empty = co_await gate.empty(flow);
  EXPECT_TRUE(empty);
  done();
}

TEST(Gate, another_procedure_waits_for_it) {
  net::EventLoop loop;
  Gate gate(loop), ending(loop);
  std::vector<std::string> told;
  wait_long(gate.flow(), told, "a");
  wait_for_gate(ending.flow(), gate, [&] { loop.stop(); });
  gate.close({ErrorCode::kShuttingDown, "closed"});
  loop.run();
  EXPECT_EQ(told, (std::vector<std::string>{"a closed"}));
}

Procedure computes(FlowPtr flow, Background& background, std::vector<unsigned>& lines, std::function<void()> done) {
  lines.push_back(__LINE__ + 1);
  (void)co_await pause(flow, 1ms);
  net::compute_for(30ms);
  auto work = [] { return true; };
  lines.push_back(__LINE__ + 1);
  (void)co_await in_background(flow, background, work);
  net::compute_for(30ms);
  done();
}

TEST(Flow, a_slow_turn_of_a_procedure_is_known_by_its_name_and_step) {
  net::EventLoop loop;
  Background background(loop);
  Gate gate(loop);
  std::vector<std::string> slow;
  loop.watch_turns(10ms, [&](const net::Turn&, std::string_view what) { slow.emplace_back(what); });
  const FlowPtr flow = gate.flow();
  flow->set_name("counting");
  std::vector<unsigned> lines;
  computes(flow, background, lines, [&] { loop.stop(); });
  loop.run();
  std::vector<std::string> places;
  for (const unsigned line : lines) places.push_back("counting flow_test.cc:" + std::to_string(line));
  EXPECT_EQ(slow, places);
}

Procedure fails(FlowPtr flow, Step<bool>::Done done) {
  (void)co_await pause(flow, 1ms);
  if (flow) throw std::bad_alloc();
  done(true);
}

Procedure asks(FlowPtr flow, std::string& told, std::function<void()> done) {
  Step<bool> step{flow, [&](Step<bool>::Done then) -> std::any {
                    fails(flow, std::move(then));
                    return {};
                  }};
  const auto answer = co_await step;
  told = answer ? "answered" : std::string(name(answer.error().code));
  done();
}

TEST(Gate, an_exception_ends_its_procedure_alone_and_whoever_waits_for_it_hears) {
  net::EventLoop loop;
  Gate gate(loop);
  int logged = 0;
  start_log("flow", [&](const std::string& line) { logged += line.contains("procedure_failed"); });
  std::string told;
  asks(gate.flow(), told, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(told, "INTERNAL");
  stop_log();
  EXPECT_EQ(logged, 1);
  EXPECT_EQ(gate.inside(), 0);
}

}  // namespace
}  // namespace llorch::service
