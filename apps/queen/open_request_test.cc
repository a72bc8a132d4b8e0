#include "queen/open_request.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "queen/job_ledger.h"

namespace llorch::queen {
namespace {

double counted(const Metrics& m, const std::string& name) {
  const std::string text = m.text();
  const std::size_t at = text.find("\nllorch_queen_" + name + " ");
  return at == text.npos ? 0 : std::stod(text.substr(text.find(' ', at)));
}

struct Counts {
  double started, completed, failed, cancelled;
  bool operator==(const Counts&) const = default;
};
Counts counts(const Metrics& m) {
  return {counted(m, "requests_started_total"), counted(m, R"(requests_total{outcome="completed"})"),
          counted(m, R"(requests_total{outcome="failed"})"), counted(m, R"(requests_total{outcome="cancelled"})")};
}

service::Procedure throws(service::FlowPtr flow, [[maybe_unused]] OpenRequestPtr open) {
  (void)co_await service::pause(flow, std::chrono::milliseconds(1));
  throw std::runtime_error("memory, say");
}

TEST(OpenRequest, counts_once_at_the_door_and_once_at_its_end) {
  Metrics m;
  {
    OpenRequest first(m), second(m), third(m), fourth(m);
    EXPECT_EQ(counts(m), (Counts{4, 0, 0, 0})) << "they are under way";
    first.completed();
    first.cancelled();  // its client closes afterwards
    second.failed(ErrorCode::kCancelled);
    third.failed(ErrorCode::kShuttingDown);
  }
  EXPECT_EQ(counts(m), (Counts{4, 1, 2, 1})) << "the fourth went without a word";
}

TEST(OpenRequest, an_exception_ends_it) {
  Metrics m;
  net::EventLoop loop;
  service::Gate gate(loop);
  throws(gate.flow(), std::make_unique<OpenRequest>(m));
  gate.close({ErrorCode::kShuttingDown, "over"});
  gate.when_empty([&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(counts(m), (Counts{1, 0, 1, 0}));
}

/// A folder of its own, removed at the end.
struct Folder {
  Folder() { EXPECT_NE(mkdtemp(path.data()), nullptr); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path = "/tmp/llorch-ledger-XXXXXX";
};

/// Jobs as the queen has them.
struct Jobs {
  Folder folder;
  net::EventLoop loop;
  service::Gate gate{loop};
  Metrics metrics;
  std::unique_ptr<Catalog> catalog = std::move(*Catalog::load(folder.path + "/queen.db"));
  service::Background background{loop};
  std::unique_ptr<JobLedger> ledger;
  service::JobDesk desk{gate, {"queen", "queen", {}, [this](const job::Job& job) { ledger->on_ended(job); }}};

  Jobs() {
    ledger = std::make_unique<JobLedger>(desk, background, metrics);
    ledger->open(*catalog);
  }
  service::TaskPtr begin() {
    const auto c = std::make_shared<service::Context>();
    auto t = desk.create(c, "infer", false, true);
    JobRow row;
    row.id = t->job->id;
    ledger->begin(std::move(row), std::make_unique<OpenRequest>(metrics));
    return t;
  }
};

TEST(JobLedger, every_end_of_a_job_is_counted_once) {
  Jobs j;
  j.begin()->succeed();
  j.begin()->fail({ErrorCode::kWorkerCrashed, "gone"});
  j.desk.cancel(j.begin()->job);
  const auto cancelled = j.begin();
  j.desk.cancel(cancelled->job);
  cancelled->fail({ErrorCode::kIo, "its procedure ends later"});
  j.begin();  // dropped without a word
  const auto last = j.begin();
  j.desk.cancel_all({ErrorCode::kShuttingDown, "the queen is shutting down"});
  EXPECT_EQ(counts(j.metrics), (Counts{6, 1, 3, 2}));
}

TEST(JobLedger, nothing_of_an_ended_job_is_kept) {
  Jobs j;
  const auto t = j.begin();
  ASSERT_NE(j.ledger->find(t->job->id), nullptr);
  j.desk.cancel(t->job);
  EXPECT_EQ(j.ledger->find(t->job->id), nullptr) << "its procedure still runs, and must not bring it back";
  EXPECT_EQ(j.ledger->open_jobs(), 0U);
}

}  // namespace
}  // namespace llorch::queen
