// Generations under jobs, with a real engine and the builtin model: the order of events, one end, and what cancels at
// each stage.
#include "worker/job_runner.h"

#include <gtest/gtest.h>

#include "worker/test_exchange.h"

namespace llorch::worker {
namespace {

using namespace std::chrono_literals;
using Names = std::vector<std::string>;

EngineHostOptions engine_options(std::function<void()> before_step) {
  EngineHostOptions o;
  o.before_step = std::move(before_step);
  o.model.path = "builtin:haiku";
  o.model.threads = 1;
  return o;
}

std::string name_of(const EngineEvent& event) {
  if (std::holds_alternative<StartedEvent>(event)) return "started";
  if (const auto* token = std::get_if<TokenEvent>(&event)) return "token " + std::to_string(token->index);
  if (std::holds_alternative<EndEvent>(event)) return "end";
  return "error";
}

class JobRunnerTest : public testing::Test {
 protected:
  void SetUp() override {
    engine_.start([](const LoadProgress&) {}, [] { return Status(); },
                  [this](const Status& s) {
                    EXPECT_TRUE(s) << s.error().message;
                    loop_.stop();
                  });
    run_loop();
  }
  void run_loop() {
    const auto limit = loop_.after(60s, [this] {
      ADD_FAILURE() << "it did not happen in time";
      loop_.stop();
    });
    loop_.run();
  }
  /// Until the engine has nothing to do and all that it said has arrived.
  void settle() {
    std::function<void()> look = [&] {
      const EngineLoad load = engine_.load();
      if (load.running + load.waiting == 0 && ++quiet_ > 2) return loop_.stop();
      engine_.ping(look);
    };
    quiet_ = 0;
    engine_.ping(look);
    run_loop();
  }
  job::JobPtr make_job() {
    const auto job =
        jobs_.create({.principal = "me", .operation = "infer"}, net::Clock::now(), std::chrono::system_clock::now());
    job->on_ended = [this](const Error& e) {
      ends_.push_back(std::string(name(e.code)));
      hold_ = false, hold_.notify_all();
    };
    return job;
  }
  PromptRequestPtr make_request(int places) {
    const KeptRequest kept = kept_request([this](const std::string& status) { answers_.push_back(status); });
    auto r = std::make_shared<PromptRequest>(kept.context, std::weak_ptr<IdempotencyStore>());
    r->ticket = admission_.enter().value();
    EXPECT_TRUE(admission_.grow(r->ticket, places));
    return r;
  }
  /// `count` tokens of a job, told by their names, and to `then`.
  Generation generation(const job::JobPtr& job, int count, std::function<void(const std::string&)> then = {}) {
    GenerateRequest r;
    r.prompt = {5, 6, 7};
    r.max_tokens = count, r.ignore_eos = true;
    return {std::move(r), [this, job, then = std::move(then)](const EngineEvent& event) {
              events_.push_back(name_of(event));
              if (events_.back() == "end" && then == nullptr) runner_.finish(job, "end", "{}");
              if (then) then(name_of(event));
            }};
  }
  bool run(const job::JobPtr& job, std::vector<Generation> generations,
           std::optional<std::int64_t> deadline_ms = std::nullopt) {
    const auto r = make_request(static_cast<int>(generations.size()));
    return runner_.run(job, std::move(generations), *r, deadline_ms);
  }
  template<class... G>
  static std::vector<Generation> all(G... g) {
    std::vector<Generation> out;
    (out.push_back(std::move(g)), ...);
    return out;
  }

  net::EventLoop loop_;
  job::Registry jobs_;
  Metrics metrics_;
  Admission admission_{2, 2};
  ModelFacts facts_;
  std::string id_ = "worker";
  std::atomic<bool> hold_ = false;  // the engine, before its next step
  EngineHost engine_{loop_, engine_options([this] { hold_.wait(true); })};
  std::chrono::seconds timeout_{60};
  JobRunner runner_{{loop_, jobs_, engine_, metrics_, admission_, facts_, id_, timeout_, [](const Error&) {}}};
  Names events_, ends_, answers_;
  int quiet_ = 0;
};

TEST_F(JobRunnerTest, events_come_in_order_and_end_once) {
  const auto job = make_job();
  ASSERT_TRUE(run(job, all(generation(job, 3))));
  EXPECT_EQ(admission_.taken(), 1) << "the job has taken over the place";
  settle();
  EXPECT_EQ(events_, (Names{"started", "token 0", "token 1", "token 2", "end"}));
  EXPECT_EQ(job->state, job::State::kCompleted);
  EXPECT_EQ(ends_, Names{}) << "that is told of failures alone";
  EXPECT_EQ(admission_.taken(), 0);
  runner_.cancel(job);
  runner_.fail(job, {ErrorCode::kInternal, "late"});
  EXPECT_EQ(job->state, job::State::kCompleted) << "what has ended does not end again";
  EXPECT_EQ(ends_, Names{});
}

TEST_F(JobRunnerTest, cancelling_ends_it_once_at_each_stage) {
  const Names stages{"submitted", "started", "token 0", "token 2"};
  for (const std::string& stage : stages) {
    events_.clear(), ends_.clear();
    const auto job = make_job();
    ASSERT_TRUE(run(job, all(generation(job, 200, [&, job](const std::string& event) {
                      if (event == stage) runner_.cancel(job);
                    }))));
    if (stage == "submitted") runner_.cancel(job);
    settle();
    EXPECT_EQ(job->state, job::State::kCancelled) << stage;
    EXPECT_EQ(ends_, Names{"CANCELLED"}) << stage;
    EXPECT_EQ(stage == "submitted" ? "submitted" : events_.back(), stage) << "nothing is told after it";
    EXPECT_EQ(admission_.taken(), 0) << stage;
    EXPECT_EQ(engine_.load().running + engine_.load().waiting, 0) << stage;
    runner_.cancel(job);
    EXPECT_EQ(ends_.size(), 1u) << stage;
  }
}

TEST_F(JobRunnerTest, each_generation_gives_its_place_back_when_it_ends) {
  const auto job = make_job();
  std::vector<int> taken;
  const auto watch = [&](const std::string& event) {
    if (event == "end") taken.push_back(admission_.taken());
    if (taken.size() == 2) runner_.finish(job, "end", "{}");
  };
  ASSERT_TRUE(run(job, all(generation(job, 2, watch), generation(job, 6, watch))));
  EXPECT_EQ(admission_.taken(), 2);
  settle();
  EXPECT_EQ(taken, (std::vector{2, 1}));
  EXPECT_EQ(admission_.taken(), 0);
}

TEST_F(JobRunnerTest, a_handler_that_throws_ends_its_job_alone) {
  const auto job = make_job(), other = make_job();
  ASSERT_TRUE(run(job, all(generation(job, 5, [](const std::string& event) {
                    if (event == "token 1") throw std::runtime_error("a fault");
                  }))));
  ASSERT_TRUE(run(other, all(generation(other, 5))));
  settle();
  EXPECT_EQ(job->state, job::State::kFailed);
  EXPECT_EQ(ends_, Names{"INTERNAL"});
  EXPECT_EQ(other->state, job::State::kCompleted);
  EXPECT_EQ(admission_.taken(), 0);
}

TEST_F(JobRunnerTest, what_the_engine_refuses_leaves_nothing_behind) {
  const auto job = make_job();
  Generation too_long = generation(job, 5);
  too_long.request.prompt.assign(100'000, 5);
  EXPECT_FALSE(run(job, all(generation(job, 200), std::move(too_long))));
  EXPECT_EQ(answers_.size(), 1u);
  EXPECT_EQ(jobs_.count(), 0u);
  settle();
  EXPECT_EQ(engine_.load().running + engine_.load().waiting, 0) << "the first generation ended with the second";
  EXPECT_EQ(admission_.taken(), 0);
}

TEST_F(JobRunnerTest, a_deadline_that_has_passed_is_refused_and_one_that_passes_ends_the_job) {
  const auto late = make_job();
  EXPECT_FALSE(run(late, all(generation(late, 5)), -1));
  EXPECT_EQ(answers_, Names{"504"});
  EXPECT_EQ(events_, Names{});
  EXPECT_EQ(jobs_.count(), 0u);
  EXPECT_EQ(admission_.taken(), 0);
  hold_ = true;
  const auto job = make_job();
  ASSERT_TRUE(run(job, all(generation(job, 200)), 50));
  settle();
  EXPECT_EQ(ends_, Names{"DEADLINE_EXCEEDED"});
  EXPECT_EQ(job->state, job::State::kFailed);
  EXPECT_EQ(admission_.taken(), 0);
}

TEST_F(JobRunnerTest, a_timeout_ends_the_job) {
  timeout_ = 0s;
  JobRunner hurried({loop_, jobs_, engine_, metrics_, admission_, facts_, id_, timeout_, [](const Error&) {}});
  hold_ = true;
  const auto job = make_job();
  ASSERT_TRUE(hurried.run(job, all(generation(job, 200)), *make_request(1), std::nullopt));
  settle();
  EXPECT_EQ(ends_, Names{"INFERENCE_TIMEOUT"});
  EXPECT_EQ(admission_.taken(), 0);
}

TEST_F(JobRunnerTest, everything_that_runs_ends_with_the_worker_s_error) {
  const auto one = make_job(), two = make_job();
  ASSERT_TRUE(run(one, all(generation(one, 200))));
  ASSERT_TRUE(run(two, all(generation(two, 200))));
  runner_.fail_all({ErrorCode::kModelChanged, "the file was changed"});
  settle();
  EXPECT_EQ(ends_, (Names{"MODEL_CHANGED", "MODEL_CHANGED"}));
  EXPECT_EQ(admission_.taken(), 0);
}

}  // namespace
}  // namespace llorch::worker
