#include "service/job_desk.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/clock.h"
#include "base/ids.h"
#include "service/log.h"
#include "service/narration.h"
#include "wire/error_body.h"

namespace llorch::service {
namespace {}  // namespace

Task::Task(JobDesk& desk, job::JobPtr its_job, FlowPtr its_flow)
    : job(std::move(its_job)), flow(std::move(its_flow)), desk_(desk) {
  ++desk_.tasks_;
}
Task::~Task() {
  --desk_.tasks_;
  if (!job->finished()) fail({ErrorCode::kInternal, "the work ended without a word"});
  desk_.running_.erase(job->id);
  if (cancelled_at_ && desk_.meter_) desk_.meter_->cancellation_ms.Observe(ms_since(*cancelled_at_));
}

void Task::narrate(std::string_view action, std::string human, boost::json::object more) {
  if (!shows_figures) human = security::without_figures(human);
  const bool kept = service::narrate(
      desk_.jobs_, job, {desk_.options_.daemon, desk_.options_.actor, action, std::move(human), std::move(more)});
  if (!kept && desk_.meter_) desk_.meter_->narration_dropped.Increment();
}

void Task::event(std::string_view type, boost::json::object fields) {
  boost::json::object o{{"type", type}, {"seq", job->log.next_seq()}};
  for (auto& [key, value] : fields)
    if (key != "type" && key != "seq") o.insert_or_assign(key, std::move(value));
  (void)desk_.jobs_.append(*job, std::string(type), boost::json::serialize(o));
}

bool Task::relay(std::string_view type, std::string_view json) {
  // A line break, which no JSON text needs, would begin a line of the stream that the client reads.
  const auto breaks = [](char c) { return static_cast<unsigned char>(c) < 0x20; };
  if (!json.ends_with('}') || std::ranges::any_of(json, breaks)) return false;
  std::string out = R"({"type":")";
  out.append(type).append(R"(","seq":)");
  if (!json.starts_with(out)) return false;
  json.remove_prefix(out.size());
  const std::size_t end = json.find_first_not_of("0123456789");
  if (end == 0 || end == std::string_view::npos) return false;
  out.append(std::to_string(job->log.next_seq())).append(json.substr(end));
  (void)desk_.jobs_.append(*job, std::string(type), std::move(out));
  return true;
}

void Task::start(boost::json::object fields) {
  if (job->state != job::State::kQueued) return;
  desk_.jobs_.start(*job, wall_now());
  fields["job_id"] = job->id;
  fields["started_at"] = rfc3339(job->started_at);
  fields["correlation_id"] = job->options.correlation_id;
  event("started", std::move(fields));
}

void Task::succeed(const std::optional<boost::json::value>& result, boost::json::object end) {
  if (job->finished()) return;
  if (job->state == job::State::kQueued) start();
  if (result) event("result", {{"result", *result}});
  end["type"] = "end";
  end["seq"] = job->log.next_seq();
  desk_.end(*this, job::State::kCompleted, {}, "end", boost::json::serialize(end));
}

void Task::fail(const Error& error) {
  if (job->finished()) return;
  const bool cancelled = error.code == ErrorCode::kCancelled;
  if (desk_.meter_ && (error.code == ErrorCode::kOperationTimeout || error.code == ErrorCode::kLoadingTimeout))
    desk_.meter_->deadline("operation");
  Error told = error;
  if (!shows_figures && is_about_memory(error.code)) told.message = security::without_figures(told.message);
  desk_.end(*this, cancelled ? job::State::kCancelled : job::State::kFailed, error, "error",
            job->options.openai ? boost::json::serialize(wire::error_event_of("completions", told, 0))
                                : error_event(told, job->log.next_seq()));
}

TaskPtr JobDesk::create(const ContextPtr& c, std::string operation, bool resumable, bool cancelled_by_disconnect) {
  const auto job = jobs_.create({.principal = c->principal.id,
                                 .operation = std::move(operation),
                                 .correlation_id = c->correlation_id,
                                 .traceparent = c->traceparent,
                                 .resumable = resumable,
                                 .cancelled_by_disconnect = cancelled_by_disconnect},
                                net::Clock::now(), wall_now());
  const auto task = std::make_shared<Task>(*this, job, gate_.flow());
  task->flow->set_name(job->options.operation);
  task->body_share = c->request.body_share;
  task->shows_figures = c->principal.may(Scope::kAdmin);
  running_[job->id] = task;
  job->on_cancel = [this, id = job->id] {
    if (const auto it = running_.find(id); it != running_.end())
      if (const auto alive = it->second.lock()) cancel(alive->job);
  };
  if (audit_)
    audit_->append({{"event_type", "task_submitted"},
                    {"actor", c->principal.label()},
                    {"job_id", job->id},
                    {"operation", job->options.operation},
                    {"correlation_id", c->correlation_id}});
  return task;
}

void JobDesk::end(Task& task, job::State state, const std::optional<Error>& error, std::string type, std::string json) {
  const job::Job& job = *task.job;
  jobs_.finish(*task.job, state, error, std::move(type), std::move(json), net::Clock::now(), wall_now());
  if (error)
    log(state == job::State::kCancelled ? Level::kInfo : Level::kWarn, "job_ended", error->message,
        with_origin(job, {{"code", name(error->code)}, {"operation", job.options.operation}}));
  if (audit_)
    audit_->append({{"event_type", state == job::State::kCancelled ? "task_canceled" : "task_completed"},
                    {"job_id", job.id},
                    {"actor", security::label_of(job.options.principal)},
                    {"outcome", error ? name(error->code) : "completed"}});
  if (options_.on_ended) options_.on_ended(job);
}

void JobDesk::cancel(const job::JobPtr& job) {
  const auto it = running_.find(job->id);
  if (it == running_.end()) return;
  const auto task = it->second.lock();
  if (!task || job->finished()) return;
  const Error why{ErrorCode::kCancelled, "the request was cancelled"};
  task->cancelled_at_ = net::Clock::now();
  task->fail(why);
  if (const auto tell = std::exchange(task->on_cancel, nullptr)) tell();
  task->flow->cancel(why);
}

void JobDesk::disconnected(const job::JobPtr& job) {
  const auto seen = net::Clock::now();
  cancel(job);
  if (meter_) meter_->disconnect_ms.Observe(ms_since(seen));
}

void JobDesk::cancel_all(const Error& why) {
  std::vector<TaskPtr> all;
  for (const auto& [id, weak] : running_)
    if (auto task = weak.lock()) all.push_back(std::move(task));
  for (const TaskPtr& task : all) {
    task->fail(why);
    if (const auto tell = std::exchange(task->on_cancel, nullptr)) tell();
    task->flow->cancel(why);
  }
}

void JobDesk::sweep() {
  for (const job::JobPtr& job : jobs_.sweep(net::Clock::now())) cancel(job);
  sweep_timer_ = loop_.after(std::chrono::milliseconds(500), [this] { sweep(); });
}

}  // namespace llorch::service
