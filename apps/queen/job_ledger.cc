#include "queen/job_ledger.h"

#include "base/clock.h"
#include "service/log.h"
#include "service/narration.h"

namespace llorch::queen {

using service::Level;
using service::log;

constexpr std::uint64_t kSeqBeyondMark = 10'000;  // more events than a stream has between two marks

void JobLedger::open(Catalog& catalog) {
  catalog_ = &catalog;
  const auto now = std::chrono::system_clock::now();
  for (const JobRow& row : catalog.lost) {
    // Readers may have seen some events after the last mark.
    const std::uint64_t next = static_cast<std::uint64_t>(row.last_seq) + kSeqBeyondMark;
    const auto job =
        desk_.jobs().restore(row.id, {.principal = row.principal, .operation = row.operation, .resumable = true}, next,
                             net::Clock::now(), now);
    const Error error{ErrorCode::kWorkerCrashed, "the queen was restarted while the job was open"};
    desk_.jobs().finish(*job, job::State::kFailed, error, "error", service::error_event(error, next), net::Clock::now(),
                        now);
  }
}

void JobLedger::begin(JobRow row, OpenRequestPtr request) {
  const std::string id = row.id;
  save((jobs_[id] = {std::move(row), std::move(request)}).row);
}

JobRow* JobLedger::find(const std::string& job_id) {
  const auto it = jobs_.find(job_id);
  return it == jobs_.end() ? nullptr : &it->second.row;
}

void JobLedger::mark(JobRow& row) {
  const auto job = desk_.jobs().get(row.id, "", true);
  if (!job) return;
  row.last_seq = static_cast<std::int64_t>((*job)->log.next_seq()) - 1;
  if (const job::Event* last = (*job)->log.find((*job)->log.next_seq() - 1)) row.last_type = last->type;
}

void JobLedger::save(JobRow& row) {
  mark(row);
  background_.run([catalog = catalog_, row] {
    if (const Status s = catalog->save_job(row); !s) log(Level::kWarn, "catalog_failed", s.error().message);
  });
}

void JobLedger::save_marks() {
  std::vector<JobRow> moved;
  for (auto& [id, entry] : jobs_) {
    const std::int64_t before = entry.row.last_seq;
    mark(entry.row);
    if (entry.row.last_seq != before) moved.push_back(entry.row);
  }
  if (moved.empty()) return;
  background_.run([catalog = catalog_, moved = std::move(moved)] {
    if (const Status s = catalog->save_marks(moved); !s) log(Level::kWarn, "catalog_failed", s.error().message);
  });
}

void JobLedger::on_ended(const job::Job& job) {
  if (job.state == job::State::kCancelled) metrics_.canceled.Increment();
  const auto it = jobs_.find(job.id);
  if (it == jobs_.end()) return;
  auto& [row, request] = it->second;
  if (job.error)
    request->failed(job.error->code);
  else
    request->completed();
  row.status = row.outcome = job::name(job.state);
  row.completed_ms = unix_ms();
  if (job.error) row.error_code = name(job.error->code);
  row.last_type = job.error ? "error" : "end";  // its log is freed once its reader has had it all
  save(row);
  jobs_.erase(it);
}

}  // namespace llorch::queen
