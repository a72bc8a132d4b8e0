// A request's way to the engine, on real threads but without a socket: what happens in which order, and what a client
// that leaves, a deadline and the end do at each stage.
#include "worker/intake.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "worker/test_exchange.h"

namespace llorch::worker {
namespace {

using namespace std::chrono_literals;
using Names = std::vector<std::string>;

class IntakeTest : public testing::Test {
 protected:
  /// Notes what happened; ends wait().
  void note(const std::string& what) {
    happened_.push_back(what);
    if (happened_.size() >= expected_) loop_.stop();
  }
  /// Runs the loop until so much has happened, and until the threads have nothing left.
  void wait(std::size_t count) {
    expected_ = count;
    const auto limit = loop_.after(20s, [this] {
      ADD_FAILURE() << "it did not happen in time";
      loop_.stop();
    });
    if (happened_.size() < count) loop_.run();
  }
  KeptRequest request(const std::string& key = "") {
    return kept_request([this](const std::string& status) { note(status); }, key);
  }
  PromptRequestPtr open(const KeptRequest& r) { return intake_.open(r.context); }
  void prepare(const PromptRequestPtr& r, std::function<void(const PrepareBound&)> work) {
    intake_.prepare(r, std::move(work), [this](const PromptRequestPtr&) { note("go on"); });
  }
  /// Work that goes on until it is cancelled.
  std::function<void(const PrepareBound&)> endless() {
    return [this](const PrepareBound& bound) {
      begun_.set_value();
      while (!bound.cancelled->load()) std::this_thread::yield();
      seen_cancelled_.set_value();
    };
  }
  /// Keeps both threads for short requests busy.
  void occupy() {
    std::promise<void> begun[2];
    for (auto& one : begun)
      intake_.background().run({[this, &one] {
                                  one.set_value();
                                  open_.wait();
                                },
                                [](const Status&) {}, "somebody", nullptr});
    for (auto& one : begun) one.get_future().wait();
  }

  net::EventLoop loop_;
  Metrics metrics_;
  Admission admission_{1, 1};
  std::shared_ptr<IdempotencyStore> store_ = std::make_shared<IdempotencyStore>(1u << 20);
  Status serves_;
  Names happened_;
  std::size_t expected_ = 0;
  std::promise<void> begun_, seen_cancelled_, opened_;
  std::shared_future<void> open_ = opened_.get_future().share();
  Intake intake_{{loop_, metrics_, admission_, store_, [this] { return serves_; },
                  [](const service::ContextPtr& c, const IdempotencyStore::Answer& answer) {
                    c->reply(*answer.response);
                    return true;
                  }}};
};

TEST_F(IntakeTest, a_body_is_freed_when_it_was_read_and_its_share_of_memory_goes_on_with_the_generations) {
  const auto budget = std::make_shared<net::BodyBudget>(100);
  const KeptRequest kept = request();
  const auto share = std::make_shared<net::BodyShare>(budget);
  ASSERT_TRUE(share->grow(60));
  EXPECT_FALSE(share->grow(113));
  kept.context->request.body_share = share;
  const std::weak_ptr<net::BodyShare> lives = share;
  const auto r = open(kept);
  prepare(r, [](const PrepareBound&) {});
  wait(1);
  EXPECT_EQ(r->body_bytes, 2u);
  EXPECT_TRUE(kept.context->request.body.empty());
  EXPECT_EQ(kept.context->request.body_share, nullptr);
  EXPECT_EQ(lives.use_count(), 2) << "here, and with the place";
  Admission::Ticket taken_over = std::move(r->ticket);
  EXPECT_EQ(budget->bytes, 60u);
  taken_over = {};
  EXPECT_EQ(lives.use_count(), 1);
}

TEST_F(IntakeTest, a_request_is_prepared_beside_the_loop_and_goes_on_on_it) {
  const KeptRequest asked = request();
  PromptRequestPtr r = open(asked);
  ASSERT_TRUE(r);
  EXPECT_EQ(admission_.taken(), 1);
  std::thread::id on;
  prepare(r, [&](const PrepareBound&) { on = std::this_thread::get_id(); });
  wait(1);
  EXPECT_EQ(happened_, Names{"go on"});
  EXPECT_NE(on, std::this_thread::get_id());
  EXPECT_EQ(r->body_hash, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a") << "sha256sum of {}";
  EXPECT_EQ(admission_.taken(), 1) << "the place is the request's until its end";
  r.reset();
  asked.exchange->leave();
  EXPECT_EQ(admission_.taken(), 0);
}

TEST_F(IntakeTest, what_cannot_be_served_is_refused_before_anything_is_done) {
  serves_ = fail(ErrorCode::kLoading, "the model is being loaded");
  EXPECT_FALSE(open(request()));
  serves_ = {};
  KeptRequest late = request();
  late.context->deadline = std::chrono::system_clock::now() - 1s;
  EXPECT_FALSE(open(late));
  EXPECT_EQ(admission_.taken(), 0);
  const auto first = open(request()), second = open(request());
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(open(request()));
  EXPECT_EQ(happened_, (Names{"503", "504", "429"}));
  EXPECT_EQ(admission_.taken(), 2);
  EXPECT_FALSE(intake_.grow(*first, 3, "n")) << "more than there ever is";
  EXPECT_EQ(happened_.back(), "400");
}

TEST_F(IntakeTest, a_client_that_leaves_before_its_turn_costs_nothing_more) {
  occupy();
  const KeptRequest asked = request();
  bool prepared = false;
  prepare(open(asked), [&](const PrepareBound&) { prepared = true; });
  EXPECT_EQ(admission_.taken(), 1);
  asked.exchange->leave();
  EXPECT_EQ(admission_.taken(), 0) << "the place is free at once";
  opened_.set_value();
  intake_.ping(false, [&] { note("others"); });
  wait(1);
  EXPECT_EQ(happened_, Names{"others"});
  EXPECT_FALSE(prepared);
}

TEST_F(IntakeTest, a_client_that_leaves_ends_its_preparation) {
  const KeptRequest asked = request();
  prepare(open(asked), endless());
  begun_.get_future().wait();
  asked.exchange->leave();
  EXPECT_EQ(seen_cancelled_.get_future().wait_for(20s), std::future_status::ready);
  EXPECT_EQ(admission_.taken(), 0);
  intake_.ping(false, [&] { note("others"); });
  wait(1);
  EXPECT_EQ(happened_, Names{"others"}) << "it does not go on";
}

TEST_F(IntakeTest, a_deadline_ends_the_preparation_and_is_answered_once) {
  KeptRequest asked = request();
  asked.context->deadline = std::chrono::system_clock::now() + 30ms;
  prepare(open(asked), endless());
  wait(1);
  EXPECT_EQ(happened_, Names{"504"});
  EXPECT_EQ(seen_cancelled_.get_future().wait_for(20s), std::future_status::ready);
  EXPECT_EQ(admission_.taken(), 0);
  intake_.ping(false, [&] { note("others"); });
  wait(2);
  EXPECT_EQ(happened_, (Names{"504", "others"}));
}

TEST_F(IntakeTest, work_that_throws_is_an_answer) {
  prepare(open(request()), [](const PrepareBound&) { throw std::bad_alloc(); });
  wait(1);
  EXPECT_EQ(happened_, Names{"503"});
  EXPECT_EQ(admission_.taken(), 0);
}

TEST_F(IntakeTest, of_equal_keys_one_is_prepared_and_the_others_get_its_answer) {
  const PromptRequestPtr first = open(request("k")), second = open(request("k"));
  const auto count = std::make_shared<std::atomic<int>>(0);
  const auto work = [count](const PrepareBound&) { ++*count; };
  prepare(first, work);
  wait(1);
  prepare(second, work);
  EXPECT_EQ(happened_, Names{"go on"});
  net::Response answer;
  answer.status = 202;
  first->answered("job", answer);
  first->c->reply(answer);
  wait(3);
  EXPECT_EQ(happened_, (Names{"go on", "202", "202"}));
  EXPECT_EQ(*count, 1);
}

TEST_F(IntakeTest, the_next_of_equal_keys_is_prepared_when_the_first_fails_or_its_client_leaves) {
  const KeptRequest asked = request("k");
  PromptRequestPtr first = open(asked);
  prepare(first, [](const PrepareBound&) {});
  wait(1);
  prepare(open(request("k")), [](const PrepareBound&) {});
  first->fail({ErrorCode::kInvalidRequest, "no"});
  wait(3);
  EXPECT_EQ(happened_, (Names{"go on", "400", "go on"}));
  EXPECT_EQ(store_->count(), 0u) << "nobody holds the key any more";
}

TEST_F(IntakeTest, its_end_cancels_what_runs_and_refuses_what_waits) {
  prepare(open(request()), endless());
  begun_.get_future().wait();
  intake_.close();
  EXPECT_EQ(seen_cancelled_.get_future().wait_for(20s), std::future_status::ready);
  prepare(open(request()), [](const PrepareBound&) {});
  wait(2);
  EXPECT_EQ(std::ranges::count(happened_, "503"), 1) << "the second; the first ended by itself";
}

}  // namespace
}  // namespace llorch::worker
