#include "worker/job_runner.h"

#include <fmt/format.h>

#include "base/clock.h"
#include "service/job_routes.h"
#include "service/log.h"
#include "service/narration.h"
#include "wire/error_body.h"

namespace llorch::worker {
namespace {

using service::Level;
using service::log;

template<class T>
std::int64_t count_ms(T duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

bool ends(const EngineEvent& event) {
  return std::holds_alternative<EndEvent>(event) || std::holds_alternative<Error>(event);
}

}  // namespace

void JobRunner::audit(boost::json::object event) {
  if (audit_) audit_->append(std::move(event));
}

void JobRunner::refuse_late(PromptRequest& r, std::chrono::system_clock::time_point deadline) {
  const auto over = count_ms(wall_now() - deadline);
  parts_.metrics.deadline("before_compute");
  parts_.metrics.deadline_exceeded_by_ms.Observe(static_cast<double>(over));
  r.fail({ErrorCode::kDeadlineExceeded, "the deadline has passed"},
         {{"deadline_ms", count_ms(deadline.time_since_epoch())},
          {"elapsed_ms", count_ms(net::Clock::now() - r.c->accepted)},
          {"exceeded_by_ms", over}});
}

bool JobRunner::run(const job::JobPtr& job, std::vector<Generation> generations, PromptRequest& r,
                    std::optional<std::int64_t> deadline_ms) {
  const service::ContextPtr& c = r.c;
  Deadline deadline = c->deadline;
  if (!deadline && deadline_ms)
    deadline = wall_now() + std::chrono::milliseconds(*deadline_ms - count_ms(net::Clock::now() - c->accepted));
  if (deadline && *deadline <= wall_now()) {
    parts_.jobs.remove(job->id);
    return refuse_late(r, *deadline), false;
  }
  Running running;
  if (Error why; !submit(job, generations, running, why)) {
    parts_.jobs.remove(job->id);
    return r.fail(why), false;
  }
  running.ticket = std::move(r.ticket);
  watch(job, running, deadline);
  running_.emplace(job->id, std::move(running));
  parts_.metrics.requests_started.Increment();
  job->options.correlation_id = c->correlation_id, job->options.traceparent = c->traceparent;
  audit({{"event_type", "task_submitted"},
         {"actor", c->principal.label()},
         {"job_id", job->id},
         {"operation", job->options.operation},
         {"prompt_length", r.body_bytes},
         {"prompt_hash", r.body_hash},
         {"correlation_id", c->correlation_id}});
  return true;
}

bool JobRunner::submit(const job::JobPtr& job, std::vector<Generation>& generations, Running& running, Error& why) {
  for (Generation& g : generations) {
    auto id = parts_.engine.submit(
        std::move(g.request),
        [this, job, handle = std::move(g.on_event)](const EngineEvent& event) { on_event(job, handle, event); });
    if (!id) {
      for (const int started : running.ids) parts_.engine.cancel(started);
      why = std::move(id).error();
      return false;
    }
    running.ids.push_back(*id);
  }
  return true;
}

void JobRunner::on_event(const job::JobPtr& job, const std::function<void(const EngineEvent&)>& handle,
                         const EngineEvent& event) {
  if (job->finished()) {  // cancelled here; this is the engine's word that it has stopped
    if (std::holds_alternative<Error>(event)) parts_.metrics.cancellation_ms.Observe(ms_since(job->touched));
    return;
  }
  if (oom_at_ && std::holds_alternative<TokenEvent>(event)) {
    parts_.metrics.oom_recovery_ms.Observe(ms_since(*oom_at_));
    oom_at_.reset();
  }
  try {
    handle(event);
  } catch (const std::bad_alloc&) {
    return fail(job, {ErrorCode::kInsufficientMemory, "there is not enough memory for this"});
  } catch (const std::exception& e) {
    log(Level::kError, "event_failed", e.what(), service::with_origin(*job, {}));
    return fail(job, {ErrorCode::kInternal, "an unexpected fault; the log has the details"});
  }
  if (const auto* error = std::get_if<Error>(&event); error && error->code == ErrorCode::kModelChanged)
    return parts_.on_fatal(*error);
  if (!ends(event)) {
    if (job->log.full()) pause(job->id, true);
    return;
  }
  const auto it = running_.find(job->id);
  if (it == running_.end()) return;
  it->second.ticket.give_back(1);
  if (it->second.ticket.places() == 0) running_.erase(it);
}

/// What ends a job from outside: time, its client, and a reader that does not keep up holds it.
void JobRunner::watch(const job::JobPtr& job, Running& running, const Deadline& deadline) {
  const auto expire = [this, job](ErrorCode code, const char* message, const char* reason) {
    return [this, job, code, message, reason] {
      parts_.metrics.deadline(reason);
      fail(job, {code, message});
    };
  };
  running.timeout = parts_.loop.after(
      parts_.timeout, expire(ErrorCode::kInferenceTimeout, "the inference took longer than is allowed", "timeout"));
  if (deadline)
    running.deadline = parts_.loop.after(std::chrono::duration_cast<net::Clock::duration>(*deadline - wall_now()),
                                         expire(ErrorCode::kDeadlineExceeded, "the deadline has passed", "during"));
  job->on_cancel = [this, weak = std::weak_ptr(job)] {
    if (const auto alive = weak.lock()) cancel(alive);
  };
  job->on_space = [this, id = job->id] { pause(id, false); };
}

void JobRunner::pause(const std::string& job_id, bool paused) {
  if (const auto it = running_.find(job_id); it != running_.end())
    for (const int id : it->second.ids) parts_.engine.pause(id, paused);
}

void JobRunner::release(const job::JobPtr& job) {
  const auto it = running_.find(job->id);
  if (it == running_.end()) return;
  for (const int id : it->second.ids) parts_.engine.cancel(id);
  running_.erase(it);
}

void JobRunner::fail(const job::JobPtr& job, const Error& error) {
  if (job->finished()) return;
  const auto start = net::Clock::now();
  const bool cancelled = error.code == ErrorCode::kCancelled;
  parts_.metrics.request(cancelled ? "cancelled" : "failed");
  if (error.code == ErrorCode::kKvOom || error.code == ErrorCode::kVramOom)
    parts_.metrics.oom.Increment(), oom_at_ = start;
  std::string json = service::error_event(error, job->log.next_seq());
  if (job->options.operation != "infer")
    json = boost::json::serialize(
        wire::error_event_of(job->options.operation, error, static_cast<std::uint64_t>(job->log.next_seq()) - 1));
  parts_.jobs.finish(*job, cancelled ? job::State::kCancelled : job::State::kFailed, error, "error", std::move(json),
                     start, wall_now());
  release(job);
  log(cancelled ? Level::kInfo : Level::kWarn, "job_ended", error.message,
      service::with_origin(*job, {{"code", name(error.code)}}));
  audit({{"event_type", cancelled ? "task_canceled" : "task_completed"},
         {"job_id", job->id},
         {"actor", security::label_of(job->options.principal)},
         {"outcome", name(error.code)}});
}

void JobRunner::fail_all(const Error& error) {
  for (const job::JobPtr& job : parts_.jobs.list("", true)) fail(job, error);
}

void JobRunner::cancel(const job::JobPtr& job) { fail(job, {ErrorCode::kCancelled, "the request was cancelled"}); }

void JobRunner::disconnected(const job::JobPtr& job) {
  const auto seen = net::Clock::now();
  cancel(job);
  parts_.metrics.disconnect_ms.Observe(ms_since(seen));
}

void JobRunner::finish(const job::JobPtr& job, std::string type, std::string json) {
  if (job->finished()) return;
  parts_.jobs.finish(*job, job::State::kCompleted, {}, std::move(type), std::move(json), net::Clock::now(), wall_now());
  parts_.metrics.request("completed");
  audit({{"event_type", "inference_executed"},
         {"job_id", job->id},
         {"actor", security::label_of(job->options.principal)},
         {"operation", job->options.operation},
         {"model", parts_.model.id},
         {"model_hash", parts_.model.hash}});
  audit({{"event_type", "task_completed"},
         {"job_id", job->id},
         {"actor", security::label_of(job->options.principal)},
         {"outcome", "completed"}});
}

void JobRunner::narrate(const job::JobPtr& job, std::string_view action, const std::string& human,
                        boost::json::object more) {
  if (job->options.operation != "infer") {  // OpenAI's streams have no place for it
    more["action"] = action;
    return log(Level::kInfo, action, human, service::with_origin(*job, std::move(more)));
  }
  if (!service::narrate(parts_.jobs, job, {"worker", parts_.worker_id, action, human, std::move(more)}))
    parts_.metrics.narration_dropped.Increment();
}

}  // namespace llorch::worker
