#include "worker/worker.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/ids.h"
#include "base/thread_role.h"
#include "colony/caller.h"
#include "service/log.h"
#include "service/meter.h"
#include "service/wall_time.h"
#include "worker/backend.h"
#include "worker/inference.h"
#include "worker/manifest.h"

namespace llorch::worker {

using service::Level;
using service::log;

namespace {

std::int64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::int64_t total = 0, resident = 0;
  in >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace

Worker::Worker(net::EventLoop& loop, ServeOptions options)
    : loop_(loop),
      options_(std::move(options)),
      front_(loop, options_, backend().program()),
      jobs_(options_.jobs),
      admission_(options_.engine.engine.max_batch, options_.queue_capacity),
      idempotency_(std::make_shared<IdempotencyStore>(limits::kIdempotencyBytesMax)),
      engine_(loop, options_.engine),
      runner_(runner_parts()),
      feeds_(loop, jobs_, [this](const job::JobPtr& j) { runner_.disconnected(j); }),
      intake_(intake_parts()),
      health_(loop, limits::kHealthPatience),
      hive_(loop, front_,
            {options_.hive_url, options_.callback_url, options_.hive_tls_name,
             std::chrono::seconds(options_.heartbeat_interval_s)}),
      lifecycle_(lifecycle_parts()) {
  health_.add({"preparation of short prompts",
               [this](std::function<void()> answered) { intake_.ping(false, std::move(answered)); },
               options_.prepare_stuck_after});
  health_.add({"preparation of long prompts",
               [this](std::function<void()> answered) { intake_.ping(true, std::move(answered)); },
               options_.prepare_stuck_after + limits::kPrepareTimeMax});
  health_.add({"engine", [this](std::function<void()> answered) { engine_.ping(std::move(answered)); },
               options_.engine_stuck_after});
}

Worker::~Worker() {
  front_.close();
  engine_.stop();
}

Intake::Parts Worker::intake_parts() {
  return {loop_,
          metrics_,
          admission_,
          idempotency_,
          [this] { return may_serve(); },
          [this](const service::ContextPtr& c, const IdempotencyStore::Answer& answer) { return replay(c, answer); }};
}

JobRunner::Parts Worker::runner_parts() {
  return {loop_,
          jobs_,
          engine_,
          metrics_,
          admission_,
          facts_,
          options_.worker_id,
          std::chrono::seconds(options_.inference_timeout_s),
          [this](const Error& error) { fatal(error); }};
}

Lifecycle::Parts Worker::lifecycle_parts() {
  return {loop_,
          std::chrono::milliseconds(options_.shutdown_timeout_ms),
          [this] { engine_.request_stop(); },
          [this](std::function<void()> then) { admission_.when_none_is_taken(loop_, std::move(then)); },
          [this] {
            feeds_.close();
            front_.server().stop_accepting();
          },
          [this](std::function<void()> then) { front_.server().when_no_connections(std::move(then)); },
          [this] {
            runner_.fail_all({ErrorCode::kShuttingDown, "the worker is shutting down"});
            intake_.close();
          },
          options_.on_ending};
}

std::string_view Worker::state_name() const {
  switch (state()) {
    case WorkerState::kLoading: return "loading";
    case WorkerState::kIdle: return admission_.taken() > 0 ? "busy" : "idle";
    case WorkerState::kDraining: return "draining";
    case WorkerState::kError: break;
  }
  return "error";
}

std::string Worker::fingerprint() const { return fmt::format("llorch-" LLORCH_VERSION "-{}", facts_.fingerprint); }

Status Worker::may_serve() const {
  switch (state()) {
    case WorkerState::kIdle: return {};
    case WorkerState::kLoading: return fail(ErrorCode::kLoading, "the model is being loaded");
    case WorkerState::kDraining: return fail(ErrorCode::kShuttingDown, "the worker is shutting down");
    case WorkerState::kError: break;
  }
  return fail(ErrorCode::kWorkerUnhealthy, "the worker is not healthy");
}

Status Worker::start() {
  LLORCH_OK(front_.open());
  if (options_.queen_only) {
    if (!front_.secure() || !front_.tls().now().own)
      return fail(ErrorCode::kInvalidRequest, "--queen-only needs TLS and the certificates of --colony-folder");
    front_.router().demand(
        [check = colony::CallerCheck()](const service::Context& c) mutable { return check(c.request); });
  }
  audit_ = front_.audit();
  runner_.set_audit(audit_);
  LLORCH_OK(hive_.check());
  loading_job_ =
      jobs_.create({.principal = "", .operation = "load", .resumable = true, .cancelled_by_disconnect = false},
                   net::Clock::now(), std::chrono::system_clock::now());
#define LLORCH_ROUTE(name) add_route_##name(*this);
#include "worker_routes.inc"
#undef LLORCH_ROUTE
  LLORCH_OK(front_.bind());
  if (options_.worker_id.empty()) options_.worker_id = fmt::format("worker-{}-{}", backend().kind, port());
  log(Level::kInfo, "startup", fmt::format("{} listens on {}:{}", options_.worker_id, options_.listen, port()),
      {{"action", "startup"}, {"worker_id", options_.worker_id}, {"port", port()}, {"listen", options_.listen}});
  start_loading();
  sweep();
  return {};
}

void Worker::start_loading() {
  log(Level::kInfo, "model_load_start", "the model is being loaded", {{"action", "model_load_start"}});
  engine_.on_cache_written([](const Result<std::string>& file) {
    if (file)
      log(Level::kInfo, "weights_packed", fmt::format("the packed weights lie in {}", *file), {{"action", "cache"}});
    else if (file.error().code != ErrorCode::kCancelled)
      log(Level::kWarn, "weights_not_packed", file.error().message, {{"action", "cache"}});
  });
  engine_.on_fatal([this](const Error& error) { fatal(error); });
  engine_.on_broken([this](const Error& error) { fatal(error); });
  const auto facts = std::make_shared<ModelFacts>();
  const FactsOptions wanted{options_.model_ref, options_.engine.model.path, options_.chat_template_file,
                            options_.sampling};
  engine_.start([this](const LoadProgress& p) { report_progress(p); },
                [this, facts, wanted]() -> Status {
                  LLORCH_TRY(*facts, read_facts(engine_.model(), wanted));
                  return {};
                },
                [this, facts](const Status& outcome) {
                  if (outcome) facts_ = std::move(*facts);
                  loaded_with(outcome);
                });
}

void Worker::report_progress(const LoadProgress& p) {
  const int percent = p.tensors_total ? static_cast<int>(100 * p.tensors_loaded / p.tensors_total) : 100;
  for (int step = (percent_reported_ / 25 + 1) * 25; percent_reported_ < 0 || step <= percent; step += 25) {
    percent_reported_ = percent_reported_ < 0 ? 0 : step;
    log(Level::kInfo, "model_load_progress", fmt::format("loaded {} %", percent_reported_),
        {{"action", "model_load_progress"}, {"percent", percent_reported_}});
    step = percent_reported_;
  }
  const boost::json::object o{{"type", "progress"},
                              {"seq", loading_job_->log.next_seq()},
                              {"stage", "loading_to_ram"},
                              {"layers_loaded", p.layers_loaded},
                              {"layers_total", p.layers_total},
                              {"percent", percent},
                              {"vram_mb", 0}};
  (void)jobs_.append(*loading_job_, "progress", boost::json::serialize(o));
}

void Worker::load_failed(const Error& error) {
  const std::string& path = options_.engine.model.path;
  log(Level::kError, "model_load_failed", error.message,
      {{"action", "error"},
       {"code", name(error.code)},
       {"device", backend().device()},
       {"model", path.substr(path.rfind('/') + 1)}});
  if (audit_ && error.code == ErrorCode::kModelLoadFailed)
    audit_->append({{"event_type", "malformed_model_rejected"}, {"reason", error.message}});
  lifecycle_.failed();
}

void Worker::loaded_with(const Status& outcome) {
  if (state() != WorkerState::kLoading) return;  // it ends, and loading was cancelled for that
  if (!outcome) return load_failed(outcome.error());
  device_ = engine_.model().device.get();
  lifecycle_.ready();
  if (audit_) audit_->append({{"event_type", "model_accessed"}, {"model", facts_.id}});
  log(Level::kInfo, "model_load_complete",
      fmt::format("{} is ready: {}, vocabulary {}, context {}{}", facts_.id, facts_.quant_kind, facts_.vocab,
                  facts_.context, engine_.model().from_cache ? ", weights mapped as they were packed before" : ""),
      {{"action", "model_load_complete"}, {"model", facts_.id}});
  jobs_.finish(*loading_job_, job::State::kCompleted, {}, "progress",
               boost::json::serialize(boost::json::object{
                   {"type", "progress"}, {"seq", loading_job_->log.next_seq()}, {"stage", "ready"}}),
               net::Clock::now(), std::chrono::system_clock::now());
  start_hashing();
  hive_.report_ready(report(), [this](const Status& s) {
    if (s) return ready();
    log(Level::kError, "ready_callback_failed", s.error().message, {{"action", "error"}});
    lifecycle_.failed();
  });
}

/// The model's manifest, on a thread of its own: a large model must hold up neither requests nor the end.
void Worker::start_hashing() {
  hashing_ = std::jthread([this, path = options_.engine.model.path](const std::stop_token& stop) {
    const InRole role(ThreadRole::kHelper);
    try {
      if (auto hash = model_manifest(path, stop)) loop_.post([this, hash = *hash] { facts_.hash = hash; });
    } catch (const std::exception& e) {
      log(Level::kWarn, "hash_failed", e.what());  // which throws nothing, without memory either
    }
  });
}

void Worker::ready() {
  log(Level::kInfo, "ready", fmt::format("ready at {}", front_.url()), {{"action", "ready"}, {"port", port()}});
  hive_.start_heartbeats([this] {
    health_.check([this](const std::string& stuck) { stuck_ = stuck; });
    boost::json::object body = report();
    body["timestamp"] = rfc3339(std::chrono::system_clock::now());
    body["health_status"] = state() == WorkerState::kIdle && stuck_.empty() ? "healthy" : "degraded";
    body["state"] = state_name();
    return body;
  });
  watch_residency();
  if (on_ready) on_ready();
}

void Worker::watch_residency() {
  residency_timer_ = loop_.after(options_.residency_interval, [this] {
    engine_.check_resident([this](const Status& resident) {
      if (resident) return watch_residency();
      if (state() != WorkerState::kIdle) return;
      log(Level::kError, "not_resident", resident.error().message,
          {{"action", "error"}, {"code", name(ErrorCode::kWorkerUnhealthy)}, {"active", admission_.taken()}});
      lifecycle_.unhealthy();
      runner_.fail_all({ErrorCode::kWorkerUnhealthy, resident.error().message});
    });
  });
}

boost::json::object Worker::report() const {
  return {{"worker_id", options_.worker_id},
          {"model_ref", facts_.id},
          {"memory_bytes", resident_bytes()},
          {"quant", facts_.quant_kind},
          {"context", facts_.context},
          {"model_bytes", facts_.file_bytes},
          {"queue_depth", admission_.waiting()},
          {"tokens_in_per_s", throughput_.in_per_s()},
          {"tokens_out_per_s", throughput_.out_per_s()},
          {"idle_s", throughput_.idle_s(net::Clock::now())},
          {"memory_architecture", backend().memory()},
          {"uri", front_.url()},
          {"worker_type", backend().kind},
          {"capabilities", capabilities(facts_)},
          {"protocol", "sse"}};
}

void Worker::sweep() {
  for (const job::JobPtr& job : jobs_.sweep(net::Clock::now())) runner_.cancel(job);
  idempotency_->sweep(net::Clock::now());
  measure();
  sweep_timer_ = loop_.after(std::chrono::milliseconds(500), [this] { sweep(); });
}

std::int64_t Worker::vram_bytes() const { return device_ && backend().use ? backend().use(*device_).bytes : 0; }

void Worker::measure() {
  const EngineLoad load = engine_.load();
  throughput_.sample(net::Clock::now(), metrics_.tokens_in.Value(), metrics_.tokens_out.Value(),
                     admission_.taken() > 0);
  metrics_.queue_depth.Set(admission_.waiting());
  metrics_.bodies_bytes.Set(static_cast<double>(front_.server().bodies_bytes()));
  metrics_.kv_pages_used.Set(load.pages_used), metrics_.kv_pages_total.Set(load.pages_total);
  const auto follow = [](prometheus::Counter& counter, std::int64_t value) {
    counter.Increment(static_cast<double>(value) - counter.Value());
  };
  follow(metrics_.rests, load.rests);
  follow(metrics_.tokens_drafted, load.drafted), follow(metrics_.tokens_accepted, load.accepted);
  metrics_.cache_memory_bytes.Set(static_cast<double>(load.levels.memory_bytes));
  metrics_.cache_disk_bytes.Set(static_cast<double>(load.levels.disk_bytes));
  follow(metrics_.cache_memory_hits, load.levels.memory_hits), follow(metrics_.cache_disk_hits, load.levels.disk_hits);
  follow(metrics_.cache_written, load.levels.written), follow(metrics_.cache_skipped, load.levels.skipped);
  follow(metrics_.cache_damaged, load.levels.damaged);
  metrics_.vram_bytes.Set(static_cast<double>(vram_bytes()));
  metrics_.memory_bytes.Set(static_cast<double>(resident_bytes()));
  metrics_.uptime_seconds.Set(uptime_s());
  metrics_.jobs.Set(static_cast<double>(jobs_.count()));
  service::measure_turns(loop_, metrics_.loop_turn_ms_max, metrics_.loop_turns_slow);
  if (audit_)
    metrics_.audit_dropped.Increment(
        std::max(0.0, static_cast<double>(audit_->dropped()) - metrics_.audit_dropped.Value()));
}

/// The same stream again, from its beginning, or the same answer (J-07).
bool Worker::replay(const service::ContextPtr& c, const IdempotencyStore::Answer& answer) {
  if (answer.response) {
    net::Response again = *answer.response;
    again.headers.add("Idempotent-Replayed", "true");
    c->reply(std::move(again));
    return true;
  }
  const auto job = jobs_.get(answer.job_id, c->principal.id, false);
  if (!job) return false;
  service::StreamOptions again{.framing = framing_of(**job)};
  again.headers.add("Idempotent-Replayed", "true");
  if (!service::stream_job(loop_, jobs_, *job, c, std::move(again),
                           [this](const job::JobPtr& j) { runner_.disconnected(j); }))
    c->fail({ErrorCode::kResourceInUse, "the first request with this Idempotency-Key is still running"},
            {{"job_id", answer.job_id}});
  return true;
}

/// The engine's answers cannot be trusted any more: who waits is told so, and whoever started this worker starts
/// another.
void Worker::fatal(const Error& error) {
  if (state() == WorkerState::kDraining) return;
  log(Level::kError, error.code == ErrorCode::kModelChanged ? "model_changed" : "engine_failed", error.message,
      {{"action", "shutdown"}, {"code", name(error.code)}, {"active", admission_.taken()}});
  lifecycle_.drain(1);
  runner_.fail_all(error);
}

void Worker::shutdown(std::string_view why) {
  if (state() != WorkerState::kDraining)
    log(Level::kInfo, "shutdown", fmt::format("shutting down: {}", why),
        {{"action", "shutdown"}, {"active", admission_.taken()}});
  hive_.stop();
  lifecycle_.drain();
}

}  // namespace llorch::worker
