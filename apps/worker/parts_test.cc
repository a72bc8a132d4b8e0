// The parts of a worker, each alone: admission, Idempotency-Key, health, the end.
#include <gtest/gtest.h>

#include <future>

#include "service/exit_deadline.h"
#include "worker/admission.h"
#include "worker/health_probe.h"
#include "worker/inference.h"
#include "worker/lifecycle.h"

namespace llorch::worker {
namespace {

using namespace std::chrono_literals;

TEST(Admission, places_are_taken_at_the_door_and_given_back) {
  Admission admission(2, 3);
  {
    auto first = admission.enter(), second = admission.enter();
    ASSERT_TRUE(first && second);
    EXPECT_EQ(admission.taken(), 2);
    EXPECT_EQ(admission.waiting(), 0);
    EXPECT_TRUE(admission.grow(*first, 4));
    EXPECT_EQ(admission.taken(), 5);
    EXPECT_EQ(admission.waiting(), 3);
    EXPECT_EQ(admission.enter().error().code, ErrorCode::kQueueFull);
    EXPECT_EQ(admission.grow(*second, 2).error().code, ErrorCode::kQueueFull);
    first->give_back(3);
    EXPECT_TRUE(admission.grow(*second, 2));
    Admission::Ticket moved = *std::move(first);
    EXPECT_EQ(moved.places(), 1);
    moved.give_back(7);
    EXPECT_EQ(admission.taken(), 2);
  }
  EXPECT_EQ(admission.taken(), 0);
}

TEST(Admission, what_can_never_fit_is_another_error_than_what_does_not_fit_now) {
  Admission admission(8, 100);
  auto ticket = admission.enter();
  const Status s = admission.grow(*ticket, 512);
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, ErrorCode::kInvalidRequest);
  EXPECT_TRUE(s.error().message.contains("108")) << s.error().message;
  EXPECT_TRUE(admission.grow(*ticket, 108));
}

using Claim = IdempotencyStore::Claim;
const IdempotencyStore::Time kStart{};

IdempotencyStore::Answer whole(const std::string& body) {
  net::Response r;
  r.body = body;
  return {"job", r};
}

TEST(Idempotency, one_reserves_and_the_others_wait_for_its_answer) {
  IdempotencyStore store(1 << 20);
  int called = 0;
  const auto again = [&] { ++called; };
  EXPECT_EQ(store.claim("me", "k", "h", kStart, again), Claim::kReserved);
  EXPECT_EQ(store.claim("me", "k", "h", kStart, again), Claim::kWaits);
  EXPECT_EQ(store.claim("me", "k", "h", kStart, again), Claim::kWaits);
  EXPECT_EQ(store.claim("me", "k", "another body", kStart, again), Claim::kMismatch);
  EXPECT_EQ(store.claim("me", "other", "h", kStart, again), Claim::kReserved);
  EXPECT_EQ(store.answer("k"), nullptr);
  store.answered("k", whole("text"));
  EXPECT_EQ(called, 2);
  EXPECT_EQ(store.claim("me", "k", "h", kStart, again), Claim::kAnswered);
  EXPECT_EQ(store.answer("k")->response->body, "text");
}

TEST(Idempotency, a_key_that_is_released_goes_to_the_next_in_line) {
  IdempotencyStore store(1 << 20);
  std::vector<Claim> second, third;
  std::function<void()> again2 = [&] { second.push_back(store.claim("me", "k", "h", kStart, again2)); };
  std::function<void()> again3 = [&] { third.push_back(store.claim("me", "k", "h", kStart, again3)); };
  EXPECT_EQ(store.claim("me", "k", "h", kStart, {}), Claim::kReserved);
  again2();
  again3();
  store.release("k");
  EXPECT_EQ(second, (std::vector{Claim::kWaits, Claim::kReserved}));
  EXPECT_EQ(third, (std::vector{Claim::kWaits, Claim::kWaits}));
  store.answered("k", whole("text"));
  EXPECT_EQ(third.back(), Claim::kAnswered);
}

TEST(Idempotency, answers_are_bounded_by_bytes_and_by_time) {
  IdempotencyStore store(100'000);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(store.claim("me", std::to_string(i), "h", kStart, {}), Claim::kReserved);
    store.answered(std::to_string(i), whole(std::string(10'000, 'x')));
    EXPECT_LE(store.bytes(), 100'000u);
  }
  EXPECT_EQ(store.answer("0"), nullptr) << "the oldest goes first";
  EXPECT_NE(store.answer("49"), nullptr);
  EXPECT_EQ(store.claim("me", "large", "h", kStart, {}), Claim::kReserved);
  store.answered("large", whole(std::string(200'000, 'x')));
  EXPECT_LE(store.bytes(), 100'000u);
  EXPECT_EQ(store.claim("me", "open", "h", kStart, {}), Claim::kReserved);
  store.sweep(kStart + 11min);
  EXPECT_EQ(store.count(), 1u) << "what is still being made stays";
  store.release("open");
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(Idempotency, nobody_evicts_the_answers_of_others_beyond_an_equal_share) {
  IdempotencyStore store(100'000);
  const auto remember = [&](const std::string& owner, int i) {
    const std::string key = owner + std::to_string(i);
    EXPECT_EQ(store.claim(owner, key, "h", kStart, {}), Claim::kReserved);
    store.answered(key, whole(std::string(5'000, 'x')));
    EXPECT_LE(store.bytes(), 100'000u);
  };
  for (int i = 0; i < 4; ++i) remember("quiet", i);
  for (int i = 0; i < 100; ++i) remember("loud", i);
  for (int i = 0; i < 4; ++i) EXPECT_NE(store.answer("quiet" + std::to_string(i)), nullptr) << i;
  EXPECT_EQ(store.answer("loud80"), nullptr) << "its own oldest answers went";
  EXPECT_NE(store.answer("loud99"), nullptr);
  // Whoever comes later gets as much as whoever was first.
  for (int i = 0; i < 100; ++i) remember("late", i);
  int loud = 0, late = 0;
  for (int i = 0; i < 100; ++i) {
    loud += store.answer("loud" + std::to_string(i)) != nullptr;
    late += store.answer("late" + std::to_string(i)) != nullptr;
  }
  EXPECT_GE(loud, 4);
  EXPECT_LE(std::abs(loud - late), 1);
  EXPECT_NE(store.answer("quiet0"), nullptr);
  store.sweep(kStart + 11min);
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(HealthProbe, names_the_part_that_does_not_answer) {
  net::EventLoop loop;
  HealthProbe probe(loop, 5ms);
  constexpr auto kStuck = 500ms;
  std::vector<std::function<void()>> held;
  probe.add({"quick", [&](std::function<void()> answered) { loop.post(std::move(answered)); }, kStuck});
  probe.add({"stuck", [&](std::function<void()> answered) { held.push_back(std::move(answered)); }, kStuck});
  std::vector<std::string> found;
  std::function<void()> look = [&] {
    probe.check([&](const std::string& stuck) {
      found.push_back(stuck);
      if (stuck.empty() && found.size() < 1000) return look();
      loop.stop();
    });
  };
  look();
  loop.run();
  EXPECT_EQ(found.front(), "") << "slow is not stuck";
  EXPECT_EQ(found.back(), "stuck");
  EXPECT_EQ(held.size(), 1u) << "a part that has not answered is not asked again";
  held.front()();
  found.clear();
  probe.check([&](const std::string& stuck) {
    found.push_back(stuck);
    loop.stop();
  });
  held.back()();
  loop.run();
  EXPECT_EQ(found, std::vector<std::string>{""});
}

TEST(Lifecycle, what_does_not_finish_within_the_grace_is_cancelled_and_the_loop_ends) {
  net::EventLoop loop;
  std::vector<std::string> steps;
  Lifecycle life({loop, 50ms, [&] { steps.push_back("loading"); }, [](const auto&) {},
                  [&] { steps.push_back("closed"); }, [](const auto&) {}, [&] { steps.push_back("cancelled"); },
                  [&](std::chrono::milliseconds grace) { steps.push_back(std::to_string(grace.count())); }});
  life.ready();
  EXPECT_EQ(life.state(), WorkerState::kIdle);
  life.drain();
  life.ready();
  EXPECT_EQ(life.state(), WorkerState::kDraining);
  loop.run();
  EXPECT_EQ(steps, (std::vector<std::string>{"50", "cancelled"}));
  EXPECT_EQ(life.exit_code(), 0);
}

TEST(Lifecycle, what_is_cancelled_without_any_grace_is_told_so) {
  net::EventLoop loop;
  std::vector<std::string> steps;
  net::EventLoop::Timer last;
  Lifecycle life({loop,
                  0ms,
                  [] {},
                  [](const auto&) {},
                  [] {},
                  [](const auto&) {},
                  [&] { last = loop.after(20ms, [&] { steps.push_back("the last event"); }); },
                  {}});
  life.ready();
  life.drain();
  loop.run();
  EXPECT_EQ(steps, std::vector<std::string>{"the last event"});
}

TEST(Lifecycle, it_ends_when_the_last_place_is_given_back_and_the_last_answer_sent) {
  net::EventLoop loop;
  Admission admission(1, 1);
  std::vector<std::string> steps;
  std::function<void()> sent;
  Lifecycle life({loop,
                  1h,
                  [] {},
                  [&](std::function<void()> then) { admission.when_none_is_taken(loop, std::move(then)); },
                  [&] {
                    steps.push_back("closed");
                    loop.post([&] { sent(); });
                  },
                  [&](std::function<void()> then) { sent = std::move(then); },
                  [&] { steps.push_back("cancelled"); },
                  {}});
  auto first = admission.enter(), second = admission.enter();
  life.drain();
  loop.post([&] {
    first = fail(ErrorCode::kCancelled, "");
    EXPECT_EQ(admission.taken(), 1);
    loop.post([&] { steps.push_back("last"), second = fail(ErrorCode::kCancelled, ""); });
  });
  loop.run();
  EXPECT_EQ(steps, (std::vector<std::string>{"last", "closed"}));
}

TEST(Lifecycle, the_end_during_loading_cancels_it) {
  net::EventLoop loop;
  bool cancelled = false;
  const auto at_once = [&](const std::function<void()>& then) { loop.post(then); };
  Lifecycle life({loop, 50ms, [&] { cancelled = true; }, at_once, [] {}, at_once, [] {}, {}});
  life.drain();
  EXPECT_TRUE(cancelled);
  loop.run();
}

TEST(ExitDeadlineDeathTest, ends_a_process_that_hangs_with_its_code) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        service::ExitDeadline end;
        end.arm(20ms, [] { return 7; });
        std::promise<void>().get_future().wait();
      },
      testing::ExitedWithCode(7), "");
  service::ExitDeadline in_time;
  in_time.arm(1h, [] { return 7; });
}

/// A tokenizer of three tokens.
std::unique_ptr<Tokenizer> small_tokenizer() {
  return Tokenizer::from_hf_json(
             R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"added_tokens":[]})")
      .value();
}
PrepareBound endless() {
  return {.accepted = {}, .deadline = WorkLimit::Clock::time_point::max(), .cancelled = nullptr};
}

TEST(PromptRenderer, messages_are_read_within_the_bound_though_the_template_looks_at_none) {
  const auto tokenizer = small_tokenizer();
  const PromptRenderer renderer = PromptRenderer::make(*tokenizer, "ab", "", "").value();
  boost::json::array messages;
  const auto looks = [&](std::size_t count) {
    messages.clear();
    for (std::size_t i = 0; i < count; ++i) messages.push_back({{"role", "user"}, {"content", std::string(1000, 'a')}});
    int n = 0;
    PrepareBound counted = endless();
    counted.pause = [&] { ++n; };
    EXPECT_EQ(renderer.chat(messages, {}, counted), TokenIds{2});
    return n;
  };
  const int few = looks(1);
  EXPECT_GT(looks(4096), few + 2) << "the bound is looked at while they are read";
  PrepareBound cancelled = endless();
  cancelled.cancelled = std::make_shared<std::atomic<bool>>(true);
  EXPECT_EQ(renderer.chat(messages, {}, cancelled).error().code, ErrorCode::kCancelled);
  PrepareBound late = endless();
  late.tighten_to(WorkLimit::Clock::now());
  EXPECT_EQ(renderer.chat(messages, {}, late).error().code, ErrorCode::kDeadlineExceeded);
}

TEST(PromptRenderer, ids_are_spelled_within_the_bound) {
  const auto tokenizer = small_tokenizer();
  const PromptRenderer renderer = PromptRenderer::make(*tokenizer, "", "", "").value();
  EXPECT_EQ(renderer.spelling({2, 0, 1}, endless()), "abab");
  const TokenIds many(1'000'000, 2);
  PrepareBound cancelled = endless();
  cancelled.cancelled = std::make_shared<std::atomic<bool>>(true);
  EXPECT_EQ(renderer.spelling(many, cancelled).error().code, ErrorCode::kCancelled);
}

TEST(Ignored, names_of_megabytes_make_a_header_of_a_kilobyte) {
  wire::Generation asked;
  asked.ignored = {"one", "two"};
  net::Headers headers;
  name_ignored(asked, headers);
  EXPECT_EQ(headers.get("X-Llorch-Ignored"), "one, two");
  asked.ignored.assign(10'000, std::string(1000, 'x'));
  net::Headers bounded;
  name_ignored(asked, bounded);
  EXPECT_EQ(bounded.get("X-Llorch-Ignored")->size(), 1024u);
}

TEST(Salt, keeps_apart_what_the_parts_could_spell_together) {
  EXPECT_NE(cache_salt("a", "b|c"), cache_salt("a|b", "c"));
  EXPECT_NE(cache_salt("", "x"), cache_salt("x", ""));
  EXPECT_EQ(cache_salt("a", "b"), cache_salt("a", "b"));
}

}  // namespace
}  // namespace llorch::worker
