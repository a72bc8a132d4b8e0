// Jobs whose work is a procedure: made, told about, ended, cancelled and counted, the same in hive and queen.
//
// A Task is one job's work under way. Threads: the event loop's.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "job/registry.h"
#include "security/audit.h"
#include "service/flow.h"
#include "service/job_meter.h"
#include "service/router.h"

namespace llorch::service {

class JobDesk;

class Task : public std::enable_shared_from_this<Task> {
 public:
  Task(JobDesk& desk, job::JobPtr job, FlowPtr flow);
  ~Task();
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  job::JobPtr job;
  FlowPtr flow;

  void narrate(std::string_view action, std::string human, boost::json::object more = {});
  /// Appends an event; type and seq are added.
  void event(std::string_view type, boost::json::object fields);
  /// An event of another daemon's stream, whose JSON begins with its type and seq: only the number is changed. False
  /// when it begins otherwise, or may be no JSON object on one line: then it has to be read.
  bool relay(std::string_view type, std::string_view json);
  /// Running from now on; the first call also appends "started" with these fields.
  void start(boost::json::object fields = {});
  /// The terminal event: "result" where there is one, then "end".
  void succeed(const std::optional<boost::json::value>& result = {}, boost::json::object end = {});
  void fail(const Error& error);
  net::BodySharePtr body_share;  // its orders are made of the request's body
  bool shows_figures = true;     // of memory: to whom it tells what it does, may read them
  /// The work of this task that must be stopped elsewhere when it is cancelled.
  std::function<void()> on_cancel;

 private:
  friend class JobDesk;
  JobDesk& desk_;
  std::optional<net::Clock::time_point> cancelled_at_;
};
using TaskPtr = std::shared_ptr<Task>;

struct DeskOptions {
  std::string daemon, actor;  // "hive", and which
  job::RegistryOptions jobs;
  /// After a job has ended, however.
  std::function<void(const job::Job&)> on_ended;
};

class JobDesk {
 public:
  /// The work of jobs lives under `gate`.
  JobDesk(Gate& gate, DeskOptions options)
      : gate_(gate), loop_(gate.loop()), options_(std::move(options)), jobs_(options_.jobs) {
    sweep();
  }

  /// Makes a job for a request.
  [[nodiscard]] TaskPtr create(const ContextPtr& c, std::string operation, bool resumable,
                               bool cancelled_by_disconnect);
  [[nodiscard]] job::Registry& jobs() { return jobs_; }
  [[nodiscard]] net::EventLoop& loop() { return loop_; }
  [[nodiscard]] int tasks() const { return tasks_; }
  void set_audit(security::AuditLog* audit) { audit_ = audit; }
  void set_actor(std::string actor) { options_.actor = std::move(actor); }
  /// Counts from now on; `meter` outlives the desk.
  void set_meter(JobMeter* meter) { meter_ = meter; }
  void cancel(const job::JobPtr& job);
  /// Its reader has left, and that is its end.
  void disconnected(const job::JobPtr& job);
  void cancel_all(const Error& why);

 private:
  friend class Task;
  void end(Task& task, job::State state, const std::optional<Error>& error, std::string type, std::string json);
  void sweep();

  Gate& gate_;
  net::EventLoop& loop_;
  DeskOptions options_;
  job::Registry jobs_;
  std::unordered_map<std::string, std::weak_ptr<Task>> running_;
  int tasks_ = 0;
  net::EventLoop::Timer sweep_timer_;
  security::AuditLog* audit_ = nullptr;
  JobMeter* meter_ = nullptr;
};

}  // namespace llorch::service
