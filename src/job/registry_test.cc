// The registry under injected time: states, readers, resume, overflow, reaping (J-10 to J-21).
#include "job/registry.h"

#include <gtest/gtest.h>

namespace llorch::job {
namespace {

using namespace std::chrono_literals;

struct Probe final : Reader {
  int wakes = 0, displacements = 0;
  void wake() override { ++wakes; }
  void displaced() override { ++displacements; }
};

struct RegistryTest : testing::Test {
  Registry registry;
  Time now{1000h};
  WallTime wall{};
  JobPtr make(bool resumable = false, LogLimits limits = {}) {
    return registry.create({.principal = "me", .operation = "infer", .resumable = resumable, .log = limits}, now, wall);
  }
  void end(Job& job) { registry.finish(job, State::kCompleted, {}, "end", "{}", now, wall); }
};

TEST_F(RegistryTest, states_change_once_and_a_finished_job_takes_nothing) {
  const JobPtr job = make();
  EXPECT_EQ(job->state, State::kQueued);
  registry.start(*job, wall);
  EXPECT_EQ(job->state, State::kRunning);
  EXPECT_TRUE(registry.append(*job, "token", "1"));
  registry.finish(*job, State::kCancelled, Error{ErrorCode::kCancelled, "x"}, "error", "e", now, wall);
  EXPECT_FALSE(registry.append(*job, "token", "2"));
  end(*job);
  registry.start(*job, wall);
  EXPECT_EQ(job->state, State::kCancelled);
  EXPECT_EQ(job->log.next_seq(), 3u);
  EXPECT_EQ(job->log.find(2)->type, "error");
}

TEST_F(RegistryTest, only_its_owner_and_admin_see_a_job) {
  const JobPtr job = make();
  EXPECT_TRUE(registry.get(job->id, "me", false));
  EXPECT_TRUE(registry.get(job->id, "other", true));
  EXPECT_EQ(registry.get(job->id, "other", false).error().code, ErrorCode::kJobNotFound);
  EXPECT_TRUE(registry.list("other", false).empty());
}

TEST_F(RegistryTest, one_reader_but_a_resumable_job_can_be_taken_over) {
  Probe a, b;
  const JobPtr plain = make(), resumable = make(true);
  ASSERT_TRUE(registry.attach(*plain, a, 0, false));
  EXPECT_EQ(registry.attach(*plain, b, 0, true).error().code, ErrorCode::kStreamInUse);
  ASSERT_TRUE(registry.attach(*resumable, a, 0, false));
  EXPECT_EQ(registry.attach(*resumable, b, 0, false).error().code, ErrorCode::kStreamInUse);
  ASSERT_TRUE(registry.attach(*resumable, b, 0, true));
  EXPECT_EQ(a.displacements, 1);
  registry.append(*resumable, "token", "x");
  EXPECT_EQ(b.wakes, 1);
  EXPECT_FALSE(registry.detach(*resumable, a, now)) << "the displaced reader's leaving must change nothing";
  EXPECT_TRUE(resumable->attached());
  EXPECT_TRUE(registry.detach(*plain, a, now)) << "an inference without reader is cancelled";
  EXPECT_FALSE(registry.detach(*resumable, b, now));
}

TEST_F(RegistryTest, a_full_log_drops_the_delivered_then_what_is_light_and_never_a_token) {
  Probe reader;
  const JobPtr job = make(true, {.events_max = 10, .bytes_max = 1u << 20});
  int spaces = 0;
  job->on_space = [&] { ++spaces; };
  ASSERT_TRUE(registry.attach(*job, reader, 0, false));
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(registry.append(*job, "token", "x"));
  EXPECT_TRUE(job->log.full());
  EXPECT_FALSE(registry.append(*job, "narration", "n"));
  EXPECT_EQ(job->log.dropped(), 1u);
  EXPECT_TRUE(registry.append(*job, "token", "11"));
  registry.delivered(*job, 6);
  EXPECT_EQ(spaces, 1);
  EXPECT_TRUE(registry.append(*job, "token", "12"));
  EXPECT_EQ(job->log.find(12)->json, "12");
  EXPECT_EQ(job->log.find(1), nullptr);
  EXPECT_EQ(registry.attach(*job, reader, 0, true).error().code, ErrorCode::kEventsExpired);
  EXPECT_NE(job->log.find(7), nullptr) << "an event that nobody has read was dropped";
}

TEST_F(RegistryTest, a_reader_who_keeps_up_never_finds_the_log_full) {
  Probe reader;
  const JobPtr job = make(true, {.events_max = 10, .bytes_max = 1u << 20});
  ASSERT_TRUE(registry.attach(*job, reader, 0, false));
  for (std::uint64_t i = 1; i <= 100; ++i) {
    EXPECT_TRUE(registry.append(*job, "token", "x"));
    registry.delivered(*job, i);
    EXPECT_FALSE(job->log.full()) << i;
  }
  EXPECT_EQ(job->log.first_seq(), 91u) << "what still fits is kept for a resume";
}

TEST_F(RegistryTest, a_restored_job_shows_its_end_to_whoever_comes_back) {
  for (const std::uint64_t seen : {0u, 57u, 99u, 100u}) {
    Probe reader;
    const JobPtr job = registry.restore("job-" + std::to_string(seen), {.resumable = true}, 100, now, {});
    end(*job);
    const auto from = registry.attach(*job, reader, seen, true);
    ASSERT_TRUE(from) << seen;
    EXPECT_EQ(*from, seen == 100 ? 100u : 99u);
    EXPECT_EQ(job->log.find(100)->seq, 100u);
  }
  Probe reader;
  const JobPtr job = registry.restore("job-x", {.resumable = true}, 100, now, {});
  EXPECT_EQ(registry.attach(*job, reader, 100, true).error().code, ErrorCode::kInvalidRequest);
}

TEST_F(RegistryTest, reaping) {
  Probe reader;
  const JobPtr unattended = make(), attended = make(), detached = make(true), done = make();
  ASSERT_TRUE(registry.attach(*attended, reader, 0, false));
  ASSERT_TRUE(registry.attach(*detached, reader, 0, false));
  now += 30s;
  EXPECT_FALSE(registry.detach(*detached, reader, now));
  end(*done);
  now += 31s;
  EXPECT_EQ(registry.sweep(now), std::vector{unattended});
  now += 30s;
  EXPECT_EQ(registry.sweep(now).size(), 2u);
  now += 300s;
  (void)registry.sweep(now);
  EXPECT_FALSE(registry.get(done->id, "me", false));
  EXPECT_TRUE(registry.get(attended->id, "me", false));
}

TEST_F(RegistryTest, ten_thousand_jobs_leave_nothing) {
  for (int i = 0; i < 10'000; ++i) {
    const JobPtr job = make();
    registry.append(*job, "token", "x");
    end(*job);
  }
  EXPECT_EQ(registry.count(), 10'000u);
  now += 301s;
  (void)registry.sweep(now);
  EXPECT_EQ(registry.count(), 0u);
}

TEST_F(RegistryTest, a_payload_is_taken_once) {
  const JobPtr job = make();
  Registry::attach_payload(*job, 5);
  EXPECT_EQ(std::any_cast<int>(Registry::take_payload(*job)), 5);
  EXPECT_FALSE(Registry::take_payload(*job).has_value());
}

TEST_F(RegistryTest, the_log_of_a_finished_job_that_nobody_can_resume_goes_with_its_reader) {
  for (const bool resumable : {false, true}) {
    Probe reader;
    const JobPtr job = make(resumable);
    EXPECT_TRUE(registry.append(*job, "token", std::string(1000, 'x')));
    ASSERT_TRUE(registry.attach(*job, reader, 0, false));
    end(*job);
    registry.delivered(*job, 2);
    EXPECT_FALSE(registry.detach(*job, reader, now));
    EXPECT_EQ(job->log.bytes() > 0, resumable);
    const auto again = registry.attach(*job, reader, 0, false);
    EXPECT_EQ(again.has_value(), resumable);
    if (!resumable) {
      EXPECT_EQ(again.error().code, ErrorCode::kEventsExpired);
    }
  }
}

TEST(Registry, logs_of_finished_jobs_have_one_bound) {
  RegistryOptions options;
  options.finished_bytes_max = 3000;
  Registry registry(options);
  Time now{1000h};
  std::vector<JobPtr> jobs;
  for (int i = 0; i < 5; ++i) {
    jobs.push_back(registry.create({.principal = "me", .operation = "infer", .resumable = true}, now, {}));
    EXPECT_TRUE(registry.append(*jobs.back(), "token", std::string(1000, 'x')));
    registry.finish(*jobs.back(), State::kCompleted, {}, "end", "{}", now += 1s, {});
  }
  (void)registry.sweep(now);
  EXPECT_EQ(jobs[0]->log.bytes(), 0u) << "the oldest";
  EXPECT_GT(jobs[4]->log.bytes(), 0u);
  EXPECT_LE(registry.count(), 5u);
}

TEST(Registry, finished_jobs_have_a_greatest_number_and_those_that_run_do_not_count) {
  RegistryOptions options;
  options.finished_max = 2;
  Registry registry(options);
  Time now{1000h};
  std::vector<JobPtr> jobs;
  for (int i = 0; i < 5; ++i) {
    jobs.push_back(registry.create({.principal = "me", .operation = "infer"}, now, {}));
    if (i != 1) registry.finish(*jobs.back(), State::kCompleted, {}, "end", "{}", now += 1s, {});
  }
  (void)registry.sweep(now);
  std::vector<bool> there;
  for (const JobPtr& job : jobs) there.push_back(registry.get(job->id, "me", false).has_value());
  EXPECT_EQ(there, (std::vector<bool>{false, true, false, true, true}));
}

}  // namespace
}  // namespace llorch::job
