// A worker that serves: one model behind the native API and OpenAI's.
//
// Puts the parts together and holds them; each has its own header. A request comes to a route (route/), through the
// Intake (admission, Idempotency-Key, template, tokenizer) to the JobRunner, which runs it in the EngineHost. The
// Lifecycle says whether the worker serves; HiveLink and HealthProbe say so to others. Threads: the event loop's.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "job/registry.h"
#include "service/front.h"
#include "service/job_feed.h"
#include "service/job_routes.h"
#include "wire/requests.h"
#include "worker/admission.h"
#include "worker/engine_host.h"
#include "worker/health_probe.h"
#include "worker/hive_link.h"
#include "worker/intake.h"
#include "worker/job_runner.h"
#include "worker/lifecycle.h"
#include "worker/limits.h"
#include "worker/metrics.h"
#include "worker/model_facts.h"
#include "worker/response_store.h"
#include "worker/throughput.h"

namespace llorch::worker {

struct ServeOptions : service::FrontOptions {
  EngineHostOptions engine;
  std::string worker_id, model_ref, hive_url, hive_tls_name, callback_url, chat_template_file;
  SamplingSettings sampling;  // instead of the model's own
  int max_tokens_out = 2048, queue_capacity = 100, inference_timeout_s = 300, shutdown_timeout_ms = 5000,
      heartbeat_interval_s = 30;
  bool queen_only = false;    // from other machines: colony/caller.h
  bool strict_model = false;  // a request's `model` must be this worker's
  job::RegistryOptions jobs;
  net::Clock::duration prepare_stuck_after = limits::kPrepareStuckAfter, engine_stuck_after = limits::kEngineStuckAfter;
  net::Clock::duration residency_interval = limits::kResidencyInterval;
  /// Told when the worker begins to end, with the time in which it has to be gone.
  std::function<void(std::chrono::milliseconds)> on_ending;
};

class Worker {
 public:
  Worker(net::EventLoop& loop, ServeOptions options);
  ~Worker();

  /// Binds and begins to load. Errors: what is wrong with options, port or secrets.
  [[nodiscard]] Status start();
  [[nodiscard]] int port() const { return front_.port(); }
  /// Drains, then aborts, then stops the loop (W-24). A second call stops at once.
  void shutdown(std::string_view why);
  [[nodiscard]] int exit_code() const { return lifecycle_.exit_code(); }
  /// Once idle; for tests.
  std::function<void()> on_ready;

  // What routes use.
  [[nodiscard]] const ServeOptions& options() const { return options_; }
  [[nodiscard]] WorkerState state() const { return lifecycle_.state(); }
  [[nodiscard]] std::string_view state_name() const;
  [[nodiscard]] const ModelFacts& model() const { return facts_; }
  [[nodiscard]] const LoadedModel& loaded() const { return engine_.model(); }
  [[nodiscard]] net::EventLoop& loop() { return loop_; }
  [[nodiscard]] job::Registry& jobs() { return jobs_; }
  [[nodiscard]] service::JobFeeds& feeds() { return feeds_; }
  [[nodiscard]] Metrics& metrics() { return metrics_; }
  [[nodiscard]] service::Router& router() { return front_.router(); }
  [[nodiscard]] Admission& admission() { return admission_; }
  [[nodiscard]] Intake& intake() { return intake_; }
  [[nodiscard]] JobRunner& runner() { return runner_; }
  [[nodiscard]] HealthProbe& health() { return health_; }
  [[nodiscard]] ResponseStore& responses() const { return responses_; }
  [[nodiscard]] const job::JobPtr& loading_job() const { return loading_job_; }
  [[nodiscard]] std::string fingerprint() const;
  [[nodiscard]] wire::Bounds bounds() const {
    return {facts_.vocab,          options_.max_tokens_out, facts_.id,
            options_.strict_model, facts_.adapters,         facts_.sampling.params};
  }
  [[nodiscard]] double uptime_s() const { return std::chrono::duration<double>(net::Clock::now() - started_).count(); }
  /// Of the GPU's memory: what the model has; 0 on the CPU, and until it is loaded.
  [[nodiscard]] std::int64_t vram_bytes() const;
  /// Brings the gauges up to date.
  void measure();

 private:
  [[nodiscard]] Intake::Parts intake_parts();
  [[nodiscard]] JobRunner::Parts runner_parts();
  [[nodiscard]] Lifecycle::Parts lifecycle_parts();
  [[nodiscard]] Status may_serve() const;
  [[nodiscard]] bool replay(const service::ContextPtr& c, const IdempotencyStore::Answer& answer);
  void start_loading();
  void report_progress(const LoadProgress& p);
  void loaded_with(const Status& outcome);
  void load_failed(const Error& error);
  void ready();
  void fatal(const Error& error);
  /// Looks from time to time whether what the device holds is still there.
  void watch_residency();
  void start_hashing();
  void sweep();
  [[nodiscard]] boost::json::object report() const;

  net::EventLoop& loop_;
  ServeOptions options_;
  net::Clock::time_point started_ = net::Clock::now();
  ModelFacts facts_;
  Metrics metrics_;
  service::Front front_;
  security::AuditLog* audit_ = nullptr;
  job::Registry jobs_;
  job::JobPtr loading_job_;
  int percent_reported_ = -1;
  Admission admission_;
  std::shared_ptr<IdempotencyStore> idempotency_;
  EngineHost engine_;
  JobRunner runner_;
  service::JobFeeds feeds_;
  Intake intake_;
  HealthProbe health_;
  mutable ResponseStore responses_;  // has a lock of its own
  const Device* device_ = nullptr;   // the engine's, once it is loaded
  std::string stuck_;                // of the last look, for heartbeats
  HiveLink hive_;
  Lifecycle lifecycle_;
  Throughput throughput_{net::Clock::now()};
  net::EventLoop::Timer sweep_timer_, residency_timer_;
  std::jthread hashing_;
};

#define LLORCH_ROUTE(name) void add_route_##name(Worker& worker);
#include "worker_routes.inc"
#undef LLORCH_ROUTE

}  // namespace llorch::worker
