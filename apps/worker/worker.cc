#include "worker/worker.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/ids.h"
#include "base/mapped_file.h"
#include "base/thread_role.h"
#include "security/digest.h"
#include "service/log.h"
#include "service/narration.h"
#include "worker/manifest.h"

namespace llorch::worker {

using service::Level;
using service::log;

namespace {

constexpr std::chrono::minutes kIdempotencyWindow{10};

auto wall_now() { return std::chrono::system_clock::now(); }

std::int64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::int64_t total = 0, resident = 0;
  in >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

double ms_since(net::Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(net::Clock::now() - start).count();
}

}  // namespace

Worker::Worker(net::EventLoop& loop, ServeOptions options)
    : loop_(loop),
      options_(std::move(options)),
      front_(loop, options_, "llorch-worker-cpu"),
      jobs_(options_.jobs),
      engine_(loop, options_.engine),
      background_(loop) {}

Worker::~Worker() {
  front_.close();
  engine_.stop();
}

std::string_view Worker::state_name() const {
  switch (state_) {
    case WorkerState::kLoading: return "loading";
    case WorkerState::kIdle: return active_ > 0 ? "busy" : "idle";
    case WorkerState::kDraining: return "draining";
    case WorkerState::kError: break;
  }
  return "error";
}

std::string Worker::fingerprint() const {
  return fmt::format("llorch-" LLORCH_VERSION "-{}", facts_.hash.substr(0, 8));
}

Status Worker::start() {
  LLORCH_OK(front_.open());
  audit_ = front_.audit();
  for (const std::string& url : {options_.hive_url, options_.callback_url})
    if (!url.empty()) LLORCH_OK(net::parse_url(url));
  loading_job =
      jobs_.create({.principal = "", .operation = "load", .resumable = true, .cancelled_by_disconnect = false},
                   net::Clock::now(), wall_now());
#define LLORCH_ROUTE(name) add_route_##name(*this);
#include "worker_routes.inc"
#undef LLORCH_ROUTE
  LLORCH_OK(front_.bind());
  if (options_.worker_id.empty()) options_.worker_id = fmt::format("worker-cpu-{}", port());
  log(Level::kInfo, "startup", fmt::format("{} listens on {}:{}", options_.worker_id, options_.listen, port()),
      {{"action", "startup"}, {"worker_id", options_.worker_id}, {"port", port()}, {"listen", options_.listen}});
  log(Level::kInfo, "model_load_start", "the model is being loaded", {{"action", "model_load_start"}});
  engine_.on_cache_written([this](const Result<std::string>& file) {
    if (file)
      log(Level::kInfo, "weights_packed", fmt::format("the packed weights lie in {}", *file), {{"action", "cache"}});
    else if (file.error().code != ErrorCode::kCancelled)
      log(Level::kWarn, "weights_not_packed", file.error().message, {{"action", "cache"}});
  });
  engine_.on_broken([this](const Error& error) {  // its requests have been told
    log(Level::kError, "model_changed", error.message, {{"action", "error"}, {"code", name(error.code)}});
    exit_code_ = 1;
    if (state_ != WorkerState::kDraining) shutdown("the model's file was changed");
  });
  const auto facts = std::make_shared<ModelFacts>();
  engine_.start(
      [this](const arch::LoadProgress& p) {
        const int percent = p.tensors_total ? static_cast<int>(100 * p.tensors_loaded / p.tensors_total) : 100;
        for (int step = (percent_told_ / 25 + 1) * 25; percent_told_ < 0 || step <= percent; step += 25) {
          percent_told_ = percent_told_ < 0 ? 0 : step;
          log(Level::kInfo, "model_load_progress", fmt::format("loaded {} %", percent_told_),
              {{"action", "model_load_progress"}, {"percent", percent_told_}});
          step = percent_told_;
        }
        const boost::json::object o{{"type", "progress"},
                                    {"seq", loading_job->log.next_seq()},
                                    {"stage", "loading_to_ram"},
                                    {"layers_loaded", p.layers_loaded},
                                    {"layers_total", p.layers_total},
                                    {"percent", percent},
                                    {"vram_mb", 0}};
        (void)jobs_.append(*loading_job, "progress", boost::json::serialize(o));
      },
      [this, facts]() -> Status {
        LLORCH_TRY(*facts, read_facts());
        return {};
      },
      [this, facts](Status outcome) {
        if (outcome) facts_ = std::move(*facts);
        loaded(std::move(outcome));
      });
  sweep();
  return {};
}

Result<ModelFacts> Worker::read_facts() const {
  const LoadedModel& m = engine_.model();
  ModelFacts f;
  f.id = options_.model_ref.empty() ? m.reference : options_.model_ref;
  f.vocab = m.decoder->parts().vocab, f.context = m.decoder->parts().context;
  f.tokenizer_kind = m.tokenizer->kind();
  f.created = std::chrono::duration_cast<std::chrono::seconds>(wall_now().time_since_epoch()).count();
  std::map<std::string, std::uint64_t> bytes;  // the format that most of the weights have
  for (const TensorView& t : m.source->tensors()) bytes[std::string(info(t.type).name)] += t.data.size();
  for (std::uint64_t most = 0; const auto& [type, size] : bytes)
    if (size > most) most = size, f.quant_kind = type;
  const auto& metadata = m.source->metadata();
  std::string source;
  if (!options_.chat_template_file.empty()) {
    LLORCH_TRY(source, read_text_file(options_.chat_template_file, 1u << 20));
  } else if (const auto text = metadata.text("tokenizer.chat_template")) {
    source = *text;
  } else {
    const std::string& dir = options_.engine.model.path;
    if (const auto file = read_text_file(dir + "/chat_template.jinja", 1u << 20))
      source = *file;
    else if (const auto config = json::parse_file(dir + "/tokenizer_config.json"); config && config->is_object())
      source = json::find_text(config->get_object(), "chat_template").value_or("");
  }
  if (!source.empty()) {
    LLORCH_TRY(f.chat_template, jinja::Template::parse(source));
    f.reasoning = Reasoning::style_of(source);
  }
  // 0: none stated, 1: mean, 2: first token, 3: last token (GGUF's pooling_type)
  if (const auto family = metadata.text("general.architecture"))
    if (const auto pooling = metadata.unsigned_integer(*family + ".pooling_type"))
      f.pooling = *pooling == 2 ? Pooling::kFirst : *pooling == 3 ? Pooling::kLast : Pooling::kMean;
  if (m.tokenizer->bos() >= 0) f.bos = m.tokenizer->token(m.tokenizer->bos()).text;
  if (!m.tokenizer->end_ids().empty()) {
    TokenId end = *m.tokenizer->end_ids().begin();
    if (const auto eos = metadata.unsigned_integer("tokenizer.ggml.eos_token_id"); eos && *eos < m.tokenizer->size())
      end = static_cast<TokenId>(*eos);
    f.eos = m.tokenizer->token(end).text;
  }
  return f;
}

void Worker::loaded(Status outcome) {
  if (!outcome) {
    log(Level::kError, "model_load_failed", outcome.error().message,
        {{"action", "error"},
         {"code", name(outcome.error().code)},
         {"device", "cpu"},
         {"model", std::string(options_.engine.model.path.substr(options_.engine.model.path.rfind('/') + 1))}});
    if (audit_ && outcome.error().code == ErrorCode::kModelLoadFailed)
      audit_->append({{"event_type", "malformed_model_rejected"}, {"reason", outcome.error().message}});
    state_ = WorkerState::kError;
    exit_code_ = 1;
    return loop_.stop();
  }
  if (state_ != WorkerState::kLoading) return;
  state_ = WorkerState::kIdle;
  if (audit_) audit_->append({{"event_type", "model_accessed"}, {"model", facts_.id}});
  log(Level::kInfo, "model_load_complete",
      fmt::format("{} is ready: {}, vocabulary {}, context {}{}", facts_.id, facts_.quant_kind, facts_.vocab,
                  facts_.context, engine_.model().from_cache ? ", weights mapped as they were packed before" : ""),
      {{"action", "model_load_complete"}, {"model", facts_.id}});
  jobs_.finish(*loading_job, job::State::kCompleted, {}, "progress",
               boost::json::serialize(
                   boost::json::object{{"type", "progress"}, {"seq", loading_job->log.next_seq()}, {"stage", "ready"}}),
               net::Clock::now(), wall_now());
  start_hashing();
  if (options_.callback_url.empty()) return ready();
  callback_call_ = tell(net::parse_url(options_.callback_url).value(), report(), [this](Status s) {
    if (s) return ready();
    log(Level::kError, "ready_callback_failed", s.error().message, {{"action", "error"}});
    exit_code_ = 1;
    loop_.stop();
  });
}

/// The model's manifest, on a thread of its own: a large model must hold up neither requests nor the end.
void Worker::start_hashing() {
  hashing_ = std::jthread([this, path = options_.engine.model.path](const std::stop_token& stop) {
    const InRole role(ThreadRole::kHelper);
    if (auto hash = model_manifest(path, stop)) loop_.post([this, hash = *hash] { facts_.hash = hash; });
  });
}

/// POSTs a report with the spawn token; a status other than 2xx is an error.
net::Call Worker::tell(net::Url url, boost::json::object body, std::function<void(Status)> then) {
  if (const char* spawn = std::getenv("LLORCH_SPAWN_TOKEN")) body["spawn_token"] = spawn;
  net::ClientRequest call;
  call.method = "POST";
  call.url = std::move(url);
  call.headers.add("Content-Type", "application/json");
  front_.sign(call.headers);
  call.body = boost::json::serialize(body);
  auto status = std::make_shared<int>(0);
  return net::start_call(loop_, std::move(call),
                         {.on_head = [status](int s, const net::Headers&) { *status = s; },
                          .on_data = {},
                          .on_end =
                              [status, then = std::move(then)](Status s) {
                                if (s && *status / 100 != 2) s = fail(ErrorCode::kIo, "the hive answered {}", *status);
                                then(std::move(s));
                              }});
}

void Worker::ready() {
  log(Level::kInfo, "ready", fmt::format("ready at {}", front_.url()), {{"action", "ready"}, {"port", port()}});
  if (!options_.hive_url.empty()) heartbeat();
  if (on_ready) on_ready();
}

boost::json::object Worker::report() const {
  return {{"worker_id", options_.worker_id}, {"model_ref", facts_.id}, {"memory_bytes", resident_bytes()},
          {"memory_architecture", "cpu"},    {"uri", front_.url()},    {"worker_type", "cpu"},
          {"capabilities", {"text-gen"}},    {"protocol", "sse"}};
}

void Worker::heartbeat() {
  net::Url url = net::parse_url(options_.hive_url).value().below("/v1/heartbeat");
  boost::json::object body = report();
  body["timestamp"] = rfc3339(wall_now());
  body["health_status"] = state_ == WorkerState::kIdle ? "healthy" : "degraded";
  body["state"] = state_name();
  beat_call_ = tell(std::move(url), std::move(body), [this](const Status& s) {
    beat_failures_ = s ? 0 : beat_failures_ + 1;
    if (!s) log(Level::kWarn, "heartbeat_failed", s.error().message, {{"failures", beat_failures_}});
  });
  // A hive that does not answer is asked less often, at most eight times the interval.
  const int factor = 1 << std::min(beat_failures_, 3);
  beat_timer_ = loop_.after(std::chrono::seconds(options_.heartbeat_interval_s * factor), [this] { heartbeat(); });
}

void Worker::sweep() {
  for (const job::JobPtr& job : jobs_.sweep(net::Clock::now())) cancel(job);
  std::erase_if(remembered_, [](const auto& e) { return net::Clock::now() - e.second.at > kIdempotencyWindow; });
  measure();
  sweep_timer_ = loop_.after(std::chrono::milliseconds(500), [this] { sweep(); });
}

void Worker::measure() {
  const EngineLoad load = engine_.load();
  metrics_.queue_depth.Set(queue_position());
  metrics_.kv_pages_used.Set(load.pages_used), metrics_.kv_pages_total.Set(load.pages_total);
  metrics_.memory_bytes.Set(static_cast<double>(resident_bytes()));
  metrics_.uptime_seconds.Set(uptime_s());
  metrics_.jobs.Set(static_cast<double>(jobs_.count()));
  if (audit_)
    metrics_.audit_dropped.Increment(
        std::max(0.0, static_cast<double>(audit_->dropped()) - metrics_.audit_dropped.Value()));
}

bool Worker::admit(const service::ContextPtr& c, int count) {
  if (state_ == WorkerState::kLoading) return c->fail({ErrorCode::kLoading, "the model is being loaded"}), false;
  if (state_ == WorkerState::kDraining)
    return c->fail({ErrorCode::kShuttingDown, "the worker is shutting down"}), false;
  if (state_ != WorkerState::kIdle) return c->fail({ErrorCode::kWorkerUnhealthy, "the worker is not healthy"}), false;
  const int room = options_.engine.engine.max_batch + options_.queue_capacity;
  if (active_ + count <= room) return true;
  metrics_.request("rejected");
  c->fail({ErrorCode::kQueueFull, "the queue is full"}, {{"retry_after_ms", 1000},
                                                         {"backoff_ms", 1000},
                                                         {"queue_depth", queue_position()},
                                                         {"queue_capacity", options_.queue_capacity}});
  return false;
}

Status Worker::run(const job::JobPtr& job, std::vector<Generation> generations, const service::ContextPtr& c,
                   std::optional<std::int64_t> deadline_ms) {
  auto deadline = c->deadline;
  if (!deadline && deadline_ms)
    deadline = wall_now() + std::chrono::milliseconds(*deadline_ms) -
               std::chrono::duration_cast<std::chrono::milliseconds>(net::Clock::now() - c->accepted);
  if (deadline && *deadline <= wall_now()) {
    const auto over = std::chrono::duration_cast<std::chrono::milliseconds>(wall_now() - *deadline).count();
    metrics_.deadline("before_compute");
    metrics_.deadline_exceeded_by_ms.Observe(static_cast<double>(over));
    jobs_.remove(job->id);
    c->fail(
        {ErrorCode::kDeadlineExceeded, "the deadline has passed"},
        {{"deadline_ms", std::chrono::duration_cast<std::chrono::milliseconds>(deadline->time_since_epoch()).count()},
         {"elapsed_ms", std::chrono::duration_cast<std::chrono::milliseconds>(net::Clock::now() - c->accepted).count()},
         {"exceeded_by_ms", over}});
    return fail(ErrorCode::kDeadlineExceeded, "answered");
  }
  Running running;
  running.submitted = c->accepted;
  running.left = static_cast<int>(generations.size());
  for (Generation& g : generations) {
    auto id = engine_.submit(std::move(g.request), [this, job,
                                                    handle = std::move(g.on_event)](const EngineEvent& event) {
      if (job->finished()) {  // cancelled here; this is the engine's word that it has stopped
        if (std::holds_alternative<Error>(event)) metrics_.cancellation_ms.Observe(ms_since(job->touched));
        return;
      }
      if (oom_at_ && std::holds_alternative<TokenEvent>(event)) {
        metrics_.oom_recovery_ms.Observe(ms_since(*oom_at_));
        oom_at_.reset();
      }
      handle(event);
      if (const bool ended = std::holds_alternative<EndEvent>(event) || std::holds_alternative<Error>(event); !ended) {
        if (job->log.full())
          if (const auto it = running_.find(job->id); it != running_.end())
            for (const int running_id : it->second.ids) engine_.pause(running_id, true);
        return;
      }
      const auto it = running_.find(job->id);
      if (it == running_.end()) return;
      --active_;
      if (--it->second.left == 0) running_.erase(it);
    });
    if (!id) {
      for (const int started : running.ids) engine_.cancel(started);
      jobs_.remove(job->id);
      return std::unexpected(std::move(id).error());
    }
    running.ids.push_back(*id);
  }
  active_ += running.left;
  const auto expire = [this, job](ErrorCode code, const char* message, const char* reason) {
    return [this, job, code, message, reason] {
      metrics_.deadline(reason);
      fail_job(job, {code, message});
    };
  };
  running.timeout =
      loop_.after(std::chrono::seconds(options_.inference_timeout_s),
                  expire(ErrorCode::kInferenceTimeout, "the inference took longer than is allowed", "timeout"));
  if (deadline)
    running.deadline = loop_.after(std::chrono::duration_cast<net::Clock::duration>(*deadline - wall_now()),
                                   expire(ErrorCode::kDeadlineExceeded, "the deadline has passed", "during"));
  job->on_cancel = [this, job = std::weak_ptr(job)] {
    if (const auto alive = job.lock()) cancel(alive);
  };
  job->on_space = [this, id = job->id] {
    if (const auto it = running_.find(id); it != running_.end())
      for (const int running_id : it->second.ids) engine_.pause(running_id, false);
  };
  running_.emplace(job->id, std::move(running));
  job->options.correlation_id = c->correlation_id, job->options.traceparent = c->traceparent;
  if (audit_)
    audit_->append({{"event_type", "task_submitted"},
                    {"actor", c->principal.id},
                    {"job_id", job->id},
                    {"operation", job->options.operation},
                    {"prompt_length", c->request.body.size()},
                    {"prompt_hash", security::sha256_hex(c->request.body)},
                    {"correlation_id", c->correlation_id}});
  return {};
}

void Worker::release(const job::JobPtr& job) {
  const auto it = running_.find(job->id);
  if (it == running_.end()) return;
  for (const int id : it->second.ids) engine_.cancel(id);
  active_ -= it->second.left;
  running_.erase(it);
}

void Worker::fail_job(const job::JobPtr& job, const Error& error) {
  if (job->finished()) return;
  const auto start = net::Clock::now();
  const bool cancelled = error.code == ErrorCode::kCancelled;
  metrics_.request(cancelled ? "cancelled" : "failed");
  if (error.code == ErrorCode::kKvOom) metrics_.oom.Increment(), oom_at_ = start;
  std::string json = service::error_event(error, job->log.next_seq());
  if (job->options.operation != "infer")
    json = boost::json::serialize(boost::json::object{
        {"error", {{"code", name(error.code)}, {"message", error.message}, {"type", kind(error.code).type}}}});
  jobs_.finish(*job, cancelled ? job::State::kCancelled : job::State::kFailed, error, "error", std::move(json), start,
               wall_now());
  release(job);
  log(cancelled ? Level::kInfo : Level::kWarn, "job_ended", error.message,
      service::with_origin(*job, {{"code", name(error.code)}}));
  if (audit_)
    audit_->append({{"event_type", cancelled ? "task_canceled" : "task_completed"},
                    {"job_id", job->id},
                    {"actor", job->options.principal},
                    {"outcome", name(error.code)}});
}

void Worker::cancel(const job::JobPtr& job) { fail_job(job, {ErrorCode::kCancelled, "the request was cancelled"}); }

void Worker::disconnected(const job::JobPtr& job) {
  const auto seen = net::Clock::now();
  cancel(job);
  metrics_.disconnect_ms.Observe(ms_since(seen));
}

void Worker::finish_job(const job::JobPtr& job, std::string type, std::string json) {
  if (job->finished()) return;
  jobs_.finish(*job, job::State::kCompleted, {}, std::move(type), std::move(json), net::Clock::now(), wall_now());
  metrics_.request("completed");
  if (!audit_) return;
  audit_->append({{"event_type", "inference_executed"},
                  {"job_id", job->id},
                  {"actor", job->options.principal},
                  {"operation", job->options.operation},
                  {"model", facts_.id},
                  {"model_hash", facts_.hash}});
  audit_->append({{"event_type", "task_completed"},
                  {"job_id", job->id},
                  {"actor", job->options.principal},
                  {"outcome", "completed"}});
}

void Worker::narrate(const job::JobPtr& job, std::string_view action, const std::string& human,
                     boost::json::object more) {
  if (job->options.operation != "infer") {  // OpenAI's streams have no place for it
    more["action"] = action;
    return log(Level::kInfo, action, human, service::with_origin(*job, std::move(more)));
  }
  if (!service::narrate(jobs_, job, {"worker", options_.worker_id, action, human, std::move(more)}))
    metrics_.narration_dropped.Increment();
}

Result<TokenIds> Worker::render_chat(const boost::json::array& messages, const boost::json::object& arguments) const {
  if (!facts_.chat_template)
    return fail(ErrorCode::kChatTemplateMissing,
                "the model has no chat template: send a prompt, or start the worker with --chat-template");
  jinja::List list;
  for (const auto& m : messages) {
    const jinja::Value untrusted = jinja::from_json(m);
    jinja::Dict dict = *untrusted.dict();
    for (auto& [key, value] : dict.items)  // one of a fixed set, and part of control tokens in some templates
      if (key.text()->bytes == "role") value = jinja::Value(value.text()->bytes, true);
    list.emplace_back(std::move(dict));
  }
  std::vector<std::pair<std::string, jinja::Value>> trusted{{"messages", jinja::Value(std::move(list))},
                                                            {"add_generation_prompt", jinja::Value(true)},
                                                            {"bos_token", jinja::Value(facts_.bos, true)},
                                                            {"eos_token", jinja::Value(facts_.eos, true)}};
  LLORCH_TRY(const jinja::Text text, facts_.chat_template->render(arguments, trusted, std::time(nullptr)));
  return engine_.model().tokenizer->encode(text.bytes,
                                           {.add_special = false, .parse_special = true, .trust = text.trust});
}

void Worker::shutdown(std::string_view why) {
  if (state_ == WorkerState::kDraining) return loop_.stop();
  log(Level::kInfo, "shutdown", fmt::format("shutting down: {}", why), {{"action", "shutdown"}, {"active", active_}});
  state_ = WorkerState::kDraining;
  beat_timer_.cancel();
  const auto end = net::Clock::now() + std::chrono::milliseconds(options_.shutdown_timeout_ms * 4 / 5);
  // The gate: nothing active and nothing unsent; looked at again until then, and at the end by force.
  struct Gate {
    static void look(Worker& w, net::Clock::time_point end) {
      if (w.active_ == 0) w.front_.server().stop_accepting();
      if (w.active_ == 0 && w.front_.server().connections() == 0) return w.loop_.stop();
      if (net::Clock::now() >= end) {
        for (const job::JobPtr& job : w.jobs_.list("", true)) w.cancel(job);
        w.shutdown_timer_ =
            w.loop_.after(std::chrono::milliseconds(w.options_.shutdown_timeout_ms / 10), [&w] { w.loop_.stop(); });
        return;
      }
      w.shutdown_timer_ = w.loop_.after(std::chrono::milliseconds(10), [&w, end] { look(w, end); });
    }
  };
  shutdown_timer_ = loop_.after(std::chrono::milliseconds(1), [this, end] { Gate::look(*this, end); });
}

}  // namespace llorch::worker
