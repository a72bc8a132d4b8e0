// What the queen keeps of open jobs: their rows are gathered on the loop and written on the background thread.
#include "queen/queen.h"
#include "service/log.h"

namespace llorch::queen {

using service::Level;
using service::log;

/// Notes how far the job's stream is.
void Queen::mark(JobRow& row) {
  const auto job = desk_.jobs().get(row.id, "", true);
  if (!job) return;
  row.last_seq = static_cast<std::int64_t>((*job)->log.next_seq()) - 1;
  if (const job::Event* last = (*job)->log.find((*job)->log.next_seq() - 1)) row.last_type = last->type;
}

void Queen::save(JobRow& row) {
  mark(row);
  background_.run([this, row] {
    if (const Status s = catalog_->save_job(row); !s) log(Level::kWarn, "catalog_failed", s.error().message);
  });
}

/// How far the streams of open jobs are, those that have gone on.
void Queen::save_marks() {
  std::vector<JobRow> moved;
  for (auto& [id, row] : rows_)
    if (const std::int64_t before = row.last_seq; mark(row), row.last_seq != before) moved.push_back(row);
  if (moved.empty()) return;
  background_.run([this, moved = std::move(moved)] {
    if (const Status s = catalog_->save_marks(moved); !s) log(Level::kWarn, "catalog_failed", s.error().message);
  });
}

void Queen::ended(const job::Job& job) {
  if (job.state == job::State::kCancelled) metrics_.canceled.Increment();
  const auto it = rows_.find(job.id);
  if (it == rows_.end()) return;
  it->second.status = it->second.outcome = job::name(job.state);
  it->second.completed_ms = now_ms();
  if (job.error) it->second.error_code = name(job.error->code);
  save(it->second);
  rows_.erase(it);
}

}  // namespace llorch::queen
