#include "queen/intake.h"

#include <gtest/gtest.h>

#include <future>

namespace llorch::queen {
namespace {

/// Keeps the answer.
struct FakeExchange : net::Exchange {
  void send(net::Response response) override {
    answer = std::move(response), over = true;
    if (on_answer) on_answer();
  }
  void start(net::Response head) override { answer = std::move(head); }
  void write(std::string bytes) override { answer->body += bytes; }
  void finish() override { over = true; }
  [[nodiscard]] std::size_t unsent() const override { return 0; }
  [[nodiscard]] bool alive() const override { return !over; }
  void abort() override { over = true; }
  void leave() {
    over = true;
    if (on_gone) on_gone();
  }
  std::function<void()> on_answer;
  std::optional<net::Response> answer;
  bool over = false;
};

struct Door {
  net::EventLoop loop;
  QueenOptions options;
  WaitingLine line;
  Metrics metrics;
  Admission admission{options, line, metrics};
  Intake intake{loop, admission};

  static service::ContextPtr request(std::size_t body_bytes, const std::string& key = {}) {
    auto c = std::make_shared<service::Context>();
    c->exchange = std::make_shared<FakeExchange>();
    c->route = "/v1/jobs", c->request.body = std::string(body_bytes, 'x');
    if (!key.empty()) c->request.headers.add("Idempotency-Key", key);
    return c;
  }
  static FakeExchange& exchange(const service::ContextPtr& c) { return static_cast<FakeExchange&>(*c->exchange); }
};

constexpr std::size_t kShort = 1000, kLong = 1'000'000;

TEST(Intake, short_bodies_are_read_at_once_and_long_ones_on_another_thread) {
  Door d;
  std::vector<std::thread::id> readers;
  const auto read = [&] { readers.push_back(std::this_thread::get_id()); };
  bool went_on = false;
  d.intake.prepare(d.request(kShort), read, [&] { went_on = true; });
  EXPECT_TRUE(went_on);
  went_on = false;
  d.intake.prepare(d.request(kLong), read, [&] { went_on = true, d.loop.stop(); });
  ASSERT_FALSE(went_on) << "a long one was read in place";
  d.loop.run();
  ASSERT_EQ(readers.size(), 2U);
  EXPECT_EQ(readers[0], std::this_thread::get_id());
  EXPECT_NE(readers[1], std::this_thread::get_id());
}

TEST(Intake, bodies_that_are_being_read_count_at_the_door) {
  Door d;
  d.options.admission_capacity = 2;
  std::promise<void> gate;
  const auto open = gate.get_future().share();
  int done = 0;
  const auto go_on = [&] {
    if (++done == 2) d.loop.stop();
  };
  for (int i = 0; i < 2; ++i)
    d.intake.prepare(
        d.request(kLong), [open] { open.wait(); }, go_on);
  const auto third = d.request(kLong), small = d.request(kShort);
  d.intake.prepare(
      third, [] { ADD_FAILURE() << "it was read"; }, go_on);
  ASSERT_TRUE(d.exchange(third).answer);
  EXPECT_EQ(d.exchange(third).answer->status, 429);
  EXPECT_EQ(d.admission.admit(small, false), nullptr) << "those that are being read were before";
  gate.set_value();
  d.loop.run();
  EXPECT_NE(d.admission.admit(d.request(kShort), false), nullptr) << "their places are free again";
}

TEST(Intake, nobody_goes_on_for_a_client_that_left) {
  Door d;
  std::promise<void> gate;
  const auto open = gate.get_future().share();
  const auto c = d.request(kLong);
  d.intake.prepare(
      c, [open] { open.wait(); }, [] { ADD_FAILURE() << "its client has left"; });
  d.exchange(c).leave();
  gate.set_value();
  d.intake.prepare(
      d.request(kLong), [] {}, [&] { d.loop.stop(); });
  d.loop.run();
}

TEST(Intake, a_body_that_cannot_be_read_is_an_error) {
  Door d;
  const auto c = d.request(kLong);
  d.intake.prepare(
      c, [] { throw std::bad_alloc(); }, [] { ADD_FAILURE() << "it was not read"; });
  d.exchange(c).on_answer = [&] { d.loop.stop(); };
  const auto timer = d.loop.after(std::chrono::seconds(10), [&] { d.loop.stop(); });
  d.loop.run();
  ASSERT_TRUE(d.exchange(c).answer);
  EXPECT_NE(d.exchange(c).answer->body.find("INSUFFICIENT_MEMORY"), std::string::npos);
}

TEST(Intake, a_reserved_key_is_waited_for_answered_again_or_free) {
  Door d;
  const auto first = d.request(kShort, "k"), second = d.request(kShort, "k");
  service::ReservedKey key, other;
  bool told = false;
  ASSERT_TRUE(d.intake.reserve(first, "hash", key, {}));
  EXPECT_FALSE(d.intake.reserve(second, "hash", other, [&] { told = true; }));
  EXPECT_FALSE(d.exchange(second).answer) << "it waits";
  key = {};  // nothing came of the first
  EXPECT_TRUE(told);
  ASSERT_TRUE(d.intake.reserve(second, "hash", other, {}));
  net::Response made;
  made.status = 202, made.body = "the job";
  other.answered({"job", made});
  const auto third = d.request(kShort, "k"), changed = d.request(kShort, "k");
  EXPECT_FALSE(d.intake.reserve(third, "hash", key, {}));
  EXPECT_EQ(d.exchange(third).answer->body, "the job");
  EXPECT_FALSE(d.intake.reserve(changed, "another", key, {}));
  EXPECT_EQ(d.exchange(changed).answer->status, 409);
}

}  // namespace
}  // namespace llorch::queen
