#include "service/background.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <latch>
#include <mutex>
#include <new>

#include "base/test_memory.h"
#include "base/test_own_new.h"

namespace llorch::service {
namespace {

using namespace std::chrono_literals;

/// A loop that runs until `count` outcomes have arrived.
class Outcomes {
 public:
  explicit Outcomes(net::EventLoop& loop) : loop_(loop) {}
  std::function<void(const Status&)> as(std::string name) {
    return [this, name = std::move(name)](const Status& s) {
      names.push_back(name);
      codes.push_back(s ? "" : std::string(llorch::name(s.error().code)));
      if (names.size() == expected_) loop_.stop();
    };
  }
  void wait(std::size_t count) {
    expected_ = count;
    const auto limit = loop_.after(20s, [this] { loop_.stop(); });
    loop_.run();
    ASSERT_EQ(names.size(), count) << "not all outcomes have arrived";
  }
  std::vector<std::string> names, codes;

 private:
  net::EventLoop& loop_;
  std::size_t expected_ = 0;
};

/// Keeps a thread busy until it is opened.
struct HeldWork {
  std::promise<void> begun, opened;
  std::shared_future<void> open = opened.get_future().share();
  std::function<void()> work() {
    return [this] {
      begun.set_value();
      open.wait();
    };
  }
};

TEST(Background, its_threads_work_at_the_same_time) {
  net::EventLoop loop;
  Background background(loop, {.threads = 3});
  Outcomes outcomes(loop);
  std::latch meeting(3);
  for (int i = 0; i < 3; ++i) background.run([&] { meeting.arrive_and_wait(); }, outcomes.as("met"));
  outcomes.wait(3);
}

TEST(Background, owners_take_turns) {
  net::EventLoop loop;
  Background background(loop);
  Outcomes outcomes(loop);
  HeldWork gate;
  background.run({gate.work(), outcomes.as("gate"), "a", nullptr});
  gate.begun.get_future().wait();
  for (int i = 0; i < 3; ++i) background.run({[] {}, outcomes.as("a" + std::to_string(i)), "a", nullptr});
  background.run({[] {}, outcomes.as("b0"), "b", nullptr});
  background.run({[] {}, outcomes.as("c0"), "c", nullptr});
  gate.opened.set_value();
  outcomes.wait(6);
  EXPECT_EQ(outcomes.names, (std::vector<std::string>{"gate", "a0", "b0", "c0", "a1", "a2"}));
}

TEST(Background, what_hangs_holds_up_its_owner_alone) {
  net::EventLoop loop;
  Background background(loop, {.threads = 2, .threads_per_owner = 1});
  Outcomes outcomes(loop);
  HeldWork gate;
  background.run({gate.work(), outcomes.as("a0"), "a", nullptr});
  gate.begun.get_future().wait();
  background.run({[] {}, outcomes.as("a1"), "a", nullptr});
  background.run({[] {}, outcomes.as("b0"), "b", nullptr});
  background.run({[&] { gate.opened.set_value(); }, outcomes.as("b1"), "b", nullptr});
  outcomes.wait(4);
  EXPECT_EQ(outcomes.names.front(), "b0");
  EXPECT_LT(std::ranges::find(outcomes.names, "a0"), std::ranges::find(outcomes.names, "a1"));
}

/// Work of some slices, each noted; waits for its turn between them.
struct Sliced {
  Background& background;
  std::mutex mutex;
  std::string order;
  std::function<void()> work(char name, int slices) {
    return [this, name, slices] {
      for (int i = 0; i < slices; ++i) {
        {
          const std::lock_guard lock(mutex);
          order += name;
        }
        background.pause();
      }
    };
  }
};

TEST(Background, long_work_of_several_owners_takes_turns_in_slices) {
  for (const auto& [begun_max, expected] :
       {std::pair(3, "abcabcabc"), std::pair(2, "abababccc"), std::pair(1, "aaabbbccc")}) {
    net::EventLoop loop;
    Background background(loop, {.threads = 1, .begun_max = begun_max, .slice = {}});
    Outcomes outcomes(loop);
    Sliced sliced{background, {}, {}};
    HeldWork gate;
    background.run({gate.work(), outcomes.as("gate"), "gate", nullptr});
    gate.begun.get_future().wait();
    for (const char name : {'a', 'b', 'c'})
      background.run({sliced.work(name, 3), outcomes.as(std::string(1, name)), std::string(1, name), nullptr});
    gate.opened.set_value();
    outcomes.wait(4);
    EXPECT_EQ(sliced.order, expected) << begun_max << " may have begun";
  }
}

TEST(Background, an_owner_s_own_tasks_wait_until_what_it_has_begun_ends) {
  net::EventLoop loop;
  Background background(loop, {.threads = 1, .begun_max = 4, .slice = {}});
  Outcomes outcomes(loop);
  Sliced sliced{background, {}, {}};
  HeldWork gate;
  background.run({gate.work(), outcomes.as("gate"), "gate", nullptr});
  gate.begun.get_future().wait();
  for (const char name : {'1', '2', '3'})
    background.run({sliced.work(name, 3), outcomes.as(std::string(1, name)), "many", nullptr});
  background.run({sliced.work('b', 2), outcomes.as("b"), "few", nullptr});
  gate.opened.set_value();
  outcomes.wait(5);
  EXPECT_EQ(sliced.order, "1b1b1222333");
}

TEST(Background, what_waits_for_its_turn_is_cancelled_and_ends) {
  net::EventLoop loop;
  auto background = std::make_unique<Background>(loop, BackgroundOptions{.threads = 1, .begun_max = 3, .slice = {}});
  Outcomes outcomes(loop);
  HeldWork begun[2];
  const auto until_cancelled = [&](HeldWork& gate, const Cancellation& flag) {
    return [&, flag] {
      gate.begun.set_value();
      while (!flag->load()) background->pause();
    };
  };
  const Cancellation flags[] = {make_cancellation(), make_cancellation()};
  for (const int i : {0, 1})
    background->run({until_cancelled(begun[i], flags[i]), outcomes.as(std::to_string(i)), std::to_string(i), flags[i]});
  for (HeldWork& gate : begun) gate.begun.get_future().wait();
  background->cancel(flags[1]);
  outcomes.wait(1);
  EXPECT_EQ(outcomes.names, std::vector<std::string>{"1"});
  EXPECT_EQ(background->load(), 1u);
  background->close();
  outcomes.wait(2);
  EXPECT_EQ(background->load(), 0u);
  background->pause();  // of no use on another thread
}

TEST(Background, what_nobody_waits_for_is_dropped_with_all_it_holds) {
  net::EventLoop loop;
  Background background(loop);
  Outcomes outcomes(loop);
  HeldWork gate;
  background.run(gate.work(), outcomes.as("gate"));
  gate.begun.get_future().wait();
  const auto body = std::make_shared<int>();
  const auto cancellation = make_cancellation();
  bool ran = false;
  for (int i = 0; i < 2; ++i) background.run({[&ran, body] { ran = true; }, outcomes.as("dropped"), "", cancellation});
  background.run([] {}, outcomes.as("kept"));
  EXPECT_EQ(background.load(), 4u);
  background.cancel(cancellation);
  EXPECT_EQ(background.load(), 2u);
  EXPECT_EQ(body.use_count(), 1) << "a dropped task keeps what it was to work on";
  gate.opened.set_value();
  outcomes.wait(4);
  EXPECT_FALSE(ran);
  EXPECT_EQ(outcomes.names, (std::vector<std::string>{"dropped", "dropped", "gate", "kept"}));
  EXPECT_EQ(outcomes.codes, (std::vector<std::string>{"CANCELLED", "CANCELLED", "", ""}));
}

TEST(Background, work_that_runs_sees_its_flag) {
  net::EventLoop loop;
  Background background(loop);
  Outcomes outcomes(loop);
  const auto cancellation = make_cancellation();
  std::promise<void> begun;
  background.run({[&] {
                    begun.set_value();
                    while (!*cancellation) std::this_thread::yield();
                  },
                  outcomes.as("ended"), "", cancellation});
  begun.get_future().wait();
  background.cancel(cancellation);
  outcomes.wait(1);
}

TEST(Background, exceptions_are_outcomes_and_the_thread_goes_on) {
  net::EventLoop loop;
  Background background(loop);
  Outcomes outcomes(loop);
  background.run([] { throw std::runtime_error("a fault"); }, outcomes.as("fault"));
  background.run([] { throw std::bad_alloc(); }, outcomes.as("memory"));
  background.run([] { throw 1; }, outcomes.as("number"));
  background.run([] {}, outcomes.as("good"));
  outcomes.wait(4);
  EXPECT_EQ(outcomes.codes, (std::vector<std::string>{"INTERNAL", "INSUFFICIENT_MEMORY", "INTERNAL", ""}));
}

TEST(Background, an_outcome_arrives_though_its_thread_has_no_memory_left) {
  LLORCH_NEEDS_OWN_NEW();
  net::EventLoop loop;
  Background background(loop);
  Outcomes outcomes(loop);
  background.run([] { out_of_memory = true; }, outcomes.as("first"));
  background.run([] { throw std::bad_alloc(); }, outcomes.as("second"));
  outcomes.wait(2);
  background.run([] { out_of_memory = false; }, outcomes.as("third"));
  outcomes.wait(3);
  EXPECT_EQ(outcomes.codes, (std::vector<std::string>{"", "INSUFFICIENT_MEMORY", ""}));
}

TEST(Background, its_queue_is_bounded_in_all_and_for_each_owner) {
  net::EventLoop loop;
  Background background(loop, {.queue_max = 3, .queue_per_owner_max = 2});
  Outcomes outcomes(loop);
  HeldWork gate;
  background.run({gate.work(), outcomes.as("gate"), "a", nullptr});
  gate.begun.get_future().wait();
  for (int i = 0; i < 3; ++i) background.run({[] {}, outcomes.as("a" + std::to_string(i)), "a", nullptr});
  for (int i = 0; i < 2; ++i) background.run({[] {}, outcomes.as("b" + std::to_string(i)), "b", nullptr});
  gate.opened.set_value();
  outcomes.wait(6);
  EXPECT_EQ(outcomes.names, (std::vector<std::string>{"a2", "b1", "gate", "a0", "b0", "a1"}));
  EXPECT_EQ(outcomes.codes, (std::vector<std::string>{"QUEUE_FULL", "QUEUE_FULL", "", "", "", ""}));
}

TEST(Background, closing_cancels_what_can_be_and_finishes_the_rest) {
  net::EventLoop loop;
  Background background(loop);
  Outcomes outcomes(loop);
  const auto first = make_cancellation(), second = make_cancellation();
  HeldWork gate;  // closed until the last one has come
  background.run({[&] {
                    gate.work()();
                    while (!*first) std::this_thread::yield();
                  },
                  outcomes.as("running"), "", first});
  gate.begun.get_future().wait();
  bool ran = false, saved = false;
  background.run({[&] { ran = true; }, outcomes.as("waiting"), "", second});
  background.run([&] { saved = true; }, outcomes.as("row"));
  background.close();
  background.run([] {}, outcomes.as("late"));
  gate.opened.set_value();
  outcomes.wait(4);
  EXPECT_FALSE(ran);
  EXPECT_TRUE(saved);
  EXPECT_EQ(outcomes.names, (std::vector<std::string>{"waiting", "late", "running", "row"}));
  EXPECT_EQ(outcomes.codes, (std::vector<std::string>{"SHUTTING_DOWN", "SHUTTING_DOWN", "", ""}));
}

}  // namespace
}  // namespace llorch::service
