// A worker that serves: one model behind the native API and OpenAI's.
//
// Owns the event loop's side of everything: server, jobs, admission, deadlines, metrics, heartbeat, shutdown. Routes
// are the files of route/; generations run in the EngineHost. Threads: the event loop's.
#pragma once

#include <prometheus/registry.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "jinja/template.h"
#include "job/registry.h"
#include "net/http_client.h"
#include "service/background.h"
#include "service/front.h"
#include "service/job_routes.h"
#include "wire/requests.h"
#include "worker/engine_host.h"
#include "worker/metrics.h"
#include "worker/reasoning.h"

namespace llorch::worker {

struct ServeOptions : service::FrontOptions {
  EngineHostOptions engine;
  std::string worker_id, model_ref, hive_url, callback_url, chat_template_file;
  int max_tokens_out = 2048, queue_capacity = 100, inference_timeout_s = 300, shutdown_timeout_ms = 5000,
      heartbeat_interval_s = 30;
  job::RegistryOptions jobs;
};

enum class WorkerState { kLoading, kIdle, kError, kDraining };

/// Facts about the model, measured when it was loaded.
struct ModelFacts {
  std::string id, quant_kind, tokenizer_kind, hash;  // hash: SHA-256 of the file, empty until known
  int vocab = 0, context = 0;
  std::optional<jinja::Template> chat_template;
  Reasoning::Style reasoning = Reasoning::Style::kNone;
  Pooling pooling = Pooling::kMean;
  std::string bos, eos;
  std::int64_t created = 0;
};

/// One generation of a job: what the engine is asked, and what to do with each event.
struct Generation {
  GenerateRequest request;
  std::function<void(const EngineEvent&)> on_event;
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
  [[nodiscard]] int exit_code() const { return exit_code_; }
  /// Once idle; for tests.
  std::function<void()> on_ready;

  // What routes use.
  [[nodiscard]] const ServeOptions& options() const { return options_; }
  [[nodiscard]] WorkerState state() const { return state_; }
  [[nodiscard]] std::string_view state_name() const;
  [[nodiscard]] const ModelFacts& model() const { return facts_; }
  [[nodiscard]] EngineHost& engine() { return engine_; }
  [[nodiscard]] const EngineHost& engine() const { return engine_; }
  [[nodiscard]] net::EventLoop& loop() { return loop_; }
  [[nodiscard]] job::Registry& jobs() { return jobs_; }
  [[nodiscard]] Metrics& metrics() { return metrics_; }
  [[nodiscard]] service::Router& router() { return front_.router(); }
  [[nodiscard]] service::Background& background() { return background_; }
  [[nodiscard]] std::string fingerprint() const;
  [[nodiscard]] wire::Bounds bounds() const { return {facts_.vocab, options_.max_tokens_out, facts_.id}; }
  [[nodiscard]] double uptime_s() const { return std::chrono::duration<double>(net::Clock::now() - started_).count(); }
  /// LOADING, SHUTTING_DOWN or QUEUE_FULL, answered; true when `count` more generations may come.
  [[nodiscard]] bool admit(const service::ContextPtr& c, int count);
  /// Progress of loading, for readers of /v1/loading/progress.
  job::JobPtr loading_job;

  /// Runs generations under a job: admission is over, the job exists. Every event goes to its generation's on_event;
  /// deadline and timeout end the job.
  [[nodiscard]] Status run(const job::JobPtr& job, std::vector<Generation> generations, const service::ContextPtr& c,
                           std::optional<std::int64_t> deadline_ms);
  void cancel(const job::JobPtr& job);
  /// Its reader has left, and that cancels it.
  void disconnected(const job::JobPtr& job);
  /// Ends a job with an error event in the route's own shape and gives back its generations.
  void fail_job(const job::JobPtr& job, const Error& error);
  void finish_job(const job::JobPtr& job, std::string type, std::string json);
  /// To the job's readers and the log (O-01, O-02).
  void narrate(const job::JobPtr& job, std::string_view action, const std::string& human,
               boost::json::object more = {});
  [[nodiscard]] int queue_position() const { return std::max(0, active_ - options_.engine.engine.max_batch); }
  /// Brings the gauges up to date.
  void measure();
  [[nodiscard]] int active() const { return active_; }

  /// Prompts to ids, on the background thread: a const view of what is needed.
  [[nodiscard]] Result<TokenIds> render_chat(const boost::json::array& messages,
                                             const boost::json::object& arguments) const;

  struct Remembered {
    std::string body_hash, job_id;
    std::optional<net::Response> response;  // absent while it is being made, and for streams
    net::Clock::time_point at;
  };
  /// Idempotency-Key: true when the answer has been given here (replayed, refused).
  [[nodiscard]] bool replay(const service::ContextPtr& c);
  void remember(const service::ContextPtr& c, const std::string& job_id, std::optional<net::Response> response);
  /// What failed may be tried again under the same key.
  void forget(const service::ContextPtr& c);

 private:
  struct Running {
    std::vector<int> ids;  // of the engine
    int left = 0;
    net::EventLoop::Timer timeout, deadline;
    net::Clock::time_point submitted;
  };
  void loaded(Status outcome);
  [[nodiscard]] Result<ModelFacts> read_facts() const;
  void ready();
  void start_hashing();
  [[nodiscard]] net::Call tell(net::Url url, boost::json::object body, std::function<void(Status)> then);
  void heartbeat();
  void sweep();
  void release(const job::JobPtr& job);
  [[nodiscard]] boost::json::object report() const;

  net::EventLoop& loop_;
  ServeOptions options_;
  net::Clock::time_point started_ = net::Clock::now();
  WorkerState state_ = WorkerState::kLoading;
  ModelFacts facts_;
  Metrics metrics_;
  service::Front front_;
  security::AuditLog* audit_ = nullptr;
  job::Registry jobs_;
  std::map<std::string, Running> running_;
  std::map<std::string, Remembered> remembered_;
  int active_ = 0, exit_code_ = 0, percent_told_ = -1;
  net::EventLoop::Timer sweep_timer_, beat_timer_, shutdown_timer_;
  net::Call callback_call_, beat_call_;
  int beat_failures_ = 0;
  std::optional<net::Clock::time_point> oom_at_;  // until a token comes again
  EngineHost engine_;
  service::Background background_;
  std::jthread hashing_;
};

#define LLORCH_ROUTE(name) void add_route_##name(Worker& worker);
#include "worker_routes.inc"
#undef LLORCH_ROUTE

}  // namespace llorch::worker
