#include "job/registry.h"

#include <algorithm>

#include "base/ids.h"

namespace llorch::job {

std::string_view name(State state) {
  switch (state) {
    case State::kQueued: return "queued";
    case State::kRunning: return "running";
    case State::kCompleted: return "completed";
    case State::kFailed: return "failed";
    case State::kCancelled: return "cancelled";
  }
  return "failed";
}

bool EventLog::append(std::string type, std::string json) {
  while (at_limit() && events_.front().seq <= delivered_) {
    bytes_ -= events_.front().json.size() + sizeof(Event);
    events_.pop_front();
    ++first_seq_;
  }
  if (full() && (type == "narration" || type == "progress" || type == "metrics")) return ++dropped_, false;
  bytes_ += json.size() + sizeof(Event);
  events_.push_back({next_seq(), std::move(type), std::move(json)});
  return true;
}

const Event* EventLog::find(std::uint64_t seq) const {
  return seq < first_seq_ || seq >= next_seq() ? nullptr : &events_[seq - first_seq_];
}

JobPtr Registry::create(JobOptions options, Time now, WallTime wall) {
  auto job = restore("job-" + random_uuid(), std::move(options), 1, now, wall);
  job->restored = false;
  return job;
}

JobPtr Registry::restore(std::string id, JobOptions options, std::uint64_t next_seq, Time now, WallTime wall) {
  auto job = std::make_shared<Job>();
  job->id = std::move(id);
  job->log = EventLog(options.log.value_or(options_.log), next_seq);
  job->restored = true;
  job->options = std::move(options);
  job->created_at = wall;
  job->touched = now;
  jobs_.emplace(job->id, job);
  return job;
}

Result<JobPtr> Registry::get(std::string_view id, std::string_view principal, bool admin) const {
  const auto it = jobs_.find(std::string(id));
  if (it == jobs_.end() || (!admin && it->second->options.principal != principal))
    return fail(ErrorCode::kJobNotFound, "no such job");
  return it->second;
}

std::vector<JobPtr> Registry::list(std::string_view principal, bool admin) const {
  std::vector<JobPtr> out;
  for (const auto& [id, job] : jobs_)
    if (admin || job->options.principal == principal) out.push_back(job);
  std::ranges::sort(out, {}, [](const JobPtr& j) { return std::pair(j->created_at, j->id); });
  return out;
}

bool Registry::append(Job& job, std::string type, std::string json) {
  if (job.finished() || !job.log.append(std::move(type), std::move(json))) return false;
  if (job.reader) job.reader->wake();
  return true;
}

void Registry::start(Job& job, WallTime wall) {
  if (job.state != State::kQueued) return;
  job.state = State::kRunning;
  job.started_at = wall;
}

void Registry::finish(Job& job, State state, std::optional<Error> error, std::string type, std::string json, Time now,
                      WallTime wall) {
  if (job.finished()) return;
  job.log.append(std::move(type), std::move(json));
  job.state = state;
  job.error = std::move(error);
  job.completed_at = wall;
  job.touched = now;
  job.on_cancel = nullptr, job.on_space = nullptr;
  const auto ended = std::exchange(job.on_ended, nullptr);
  if (ended && job.error) ended(*job.error);
  if (job.reader) job.reader->wake();
}

Result<std::uint64_t> Registry::attach(Job& job, Reader& reader, std::uint64_t last_seq, bool take_over) {
  if (job.restored) last_seq = std::max(last_seq, job.log.first_seq() - 1);
  if (last_seq + 1 < job.log.first_seq())
    return fail(ErrorCode::kEventsExpired, "the events after that number are no longer kept");
  if (last_seq >= job.log.next_seq())
    return fail(ErrorCode::kInvalidRequest, "Last-Event-ID is beyond the events of this job");
  if (job.reader) {
    if (!take_over || !job.options.resumable)
      return fail(ErrorCode::kStreamInUse, "the job's stream is being read by another connection");
    std::exchange(job.reader, nullptr)->displaced();
  }
  job.reader = &reader;
  job.ever_attached = true;
  return last_seq;
}

bool Registry::detach(Job& job, const Reader& reader, Time now) {
  if (job.reader != &reader) return false;
  job.reader = nullptr;
  if (job.finished()) {
    if (!job.options.resumable && job.log.delivered_all()) job.log.clear();  // nobody can ask for it again
    return false;
  }
  job.touched = now;
  return job.options.cancelled_by_disconnect && !job.options.resumable;
}

void Registry::delivered(Job& job, std::uint64_t seq) {
  const bool was_full = job.log.full();
  job.log.delivered(seq);
  if (was_full && job.on_space) job.on_space();
}

void Registry::bound_finished() {
  std::vector<JobPtr> kept;  // the oldest first
  std::size_t bytes = 0;
  for (const auto& [id, job] : jobs_)
    if (job->finished() && !job->reader) kept.push_back(job), bytes += job->log.bytes();
  if (kept.size() <= options_.finished_max && bytes <= options_.finished_bytes_max) return;
  std::ranges::sort(kept, {}, [](const JobPtr& j) { return j->touched; });
  std::size_t count = kept.size();
  for (const JobPtr& job : kept) {
    const bool too_many = count > options_.finished_max;
    if (!too_many && bytes <= options_.finished_bytes_max) return;
    bytes -= job->log.bytes();
    if (too_many)
      --count, jobs_.erase(job->id);
    else
      job->log.clear();
  }
}

std::vector<JobPtr> Registry::sweep(Time now) {
  std::vector<JobPtr> cancel;
  std::erase_if(jobs_, [&](const auto& entry) {
    return entry.second->finished() && !entry.second->reader && now - entry.second->touched >= options_.finished;
  });
  bound_finished();
  for (const auto& [id, job] : jobs_) {
    if (job->finished() || job->reader || !job->options.cancelled_by_disconnect) continue;
    if (now - job->touched >= (job->ever_attached ? options_.detached : options_.unattended)) cancel.push_back(job);
  }
  return cancel;
}

}  // namespace llorch::job
