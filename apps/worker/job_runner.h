// Generations under jobs: from admission to the last event, with timeout, deadline, cancellation, metrics and audit.
//
// The one place where a job starts, ends and is told about. Threads: the event loop's.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "job/registry.h"
#include "net/event_loop.h"
#include "service/router.h"
#include "worker/engine_host.h"
#include "worker/intake.h"
#include "worker/metrics.h"
#include "worker/model_facts.h"

namespace llorch::worker {

/// One generation of a job: what the engine is asked, and what to do with each event.
struct Generation {
  GenerateRequest request;
  std::function<void(const EngineEvent&)> on_event;
};

class JobRunner {
 public:
  struct Parts {
    net::EventLoop& loop;
    job::Registry& jobs;
    EngineHost& engine;
    Metrics& metrics;
    Admission& admission;
    const ModelFacts& model;
    const std::string& worker_id;
    std::chrono::seconds timeout;
    /// An error after which the engine's answers cannot be trusted: the worker must end.
    std::function<void(const Error&)> on_fatal;
  };
  explicit JobRunner(Parts parts) : parts_(parts) {}
  void set_audit(security::AuditLog* audit) { audit_ = audit; }

  /// Runs generations under a job, which takes over the request's place. Every event goes to its generation's on_event;
  /// deadline and timeout end the job. False: the refusal was sent.
  [[nodiscard]] bool run(const job::JobPtr& job, std::vector<Generation> generations, PromptRequest& r,
                         std::optional<std::int64_t> deadline_ms);
  void cancel(const job::JobPtr& job);
  /// Its reader has left, and that cancels it.
  void disconnected(const job::JobPtr& job);
  /// Ends a job with an error event in the route's own shape and gives back its generations.
  void fail(const job::JobPtr& job, const Error& error);
  void finish(const job::JobPtr& job, std::string type, std::string json);
  /// To the job's readers and the log (O-01, O-02).
  void narrate(const job::JobPtr& job, std::string_view action, const std::string& human,
               boost::json::object more = {});
  /// Everything that runs ends with this error.
  void fail_all(const Error& error);

 private:
  struct Running {
    std::vector<int> ids;      // of the engine
    Admission::Ticket ticket;  // a place for each generation that has not ended
    net::EventLoop::Timer timeout, deadline;
  };
  using Deadline = std::optional<std::chrono::system_clock::time_point>;
  [[nodiscard]] bool submit(const job::JobPtr& job, std::vector<Generation>& generations, Running& running, Error& why);
  void on_event(const job::JobPtr& job, const std::function<void(const EngineEvent&)>& handle,
                const EngineEvent& event);
  void refuse_late(PromptRequest& r, std::chrono::system_clock::time_point deadline);
  void watch(const job::JobPtr& job, Running& running, const Deadline& deadline);
  void pause(const std::string& job_id, bool paused);
  void release(const job::JobPtr& job);
  void audit(boost::json::object event);

  Parts parts_;
  security::AuditLog* audit_ = nullptr;
  std::map<std::string, Running> running_;
  std::optional<net::Clock::time_point> oom_at_;  // until a token comes again
};

}  // namespace llorch::worker
