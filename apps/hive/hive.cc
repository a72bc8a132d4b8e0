#include "hive/hive.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "base/clock.h"
#include "base/ids.h"
#include "base/thread_role.h"
#include "colony/caller.h"
#include "format/json.h"
#include "hive/joining.h"
#include "security/digest.h"
#include "security/validate.h"
#include "service/log.h"
#include "service/plain_http.h"
#include "service/remote.h"

namespace llorch::hive {

using service::FlowPtr;
using service::Level;
using service::log;
using service::Procedure;

namespace {

constexpr std::chrono::seconds kStopTime{20};  // of all workers at once: more than the whole ladder of one
// A queen takes an answer of 1 MiB: that is some thousands of models.
constexpr std::size_t kModelsBytesMax = 960u << 10, kModelJsonBytes = 160;
constexpr std::chrono::seconds kThreadsTime{10};  // what is asked of disks and programs has to end then
constexpr service::BackgroundOptions kOfFiles{.threads = 8, .threads_per_owner = 1},
    kOfPrograms{.threads = 3, .threads_per_owner = 1};  // there are three kinds of worker

}  // namespace

Hive::Hive(net::EventLoop& loop, HiveOptions options)
    : loop_(loop),
      options_(std::move(options)),
      front_(loop, options_, "llorch-hive"),
      desk_(gate_, {"hive", options_.hive_id, {}, {}}),
      records_(options_.data_dir + "/workers.pid"),
      devices_(loop, metrics_, fmt::format("{}/llorch-worker-{}", options_.worker_dir, colony::kGpuKind)),
      transfers_(loop, options_.hub,
                 {.on_change = [this] { changed_.notify(); },
                  .on_end =
                      [this](const Result<Fetched>& r) {
                        metrics_.download(r ? "complete" : std::string(name(r.error().code)));
                      }}),
      database_(loop),
      kernel_(loop),
      files_(loop, kOfFiles),
      programs_(loop, kOfPrograms),
      standing_(files_, options_.data_dir + "/standing"),
      renewal_(
          {loop, gate_, front_, files_, options_.hive_id, options_.colony_folder, [this] { return queen_peer(); }}) {
  if (options_.hive_id.empty()) options_.hive_id = service::host_name();
  desk_.set_actor(options_.hive_id);
}

Hive::~Hive() {
  front_.close();
  workers_.clear();
}

Status Hive::start() {
  LLORCH_OK(front_.open());
  const bool joined = !options_.local_mode && access((options_.data_dir + "/node-token").c_str(), F_OK) == 0;
  queen_only_ = joined && front_.secure() && front_.tls().now().own;
  if (queen_only_)
    front_.router().demand(
        [check = colony::CallerCheck()](const service::Context& c) mutable { return check(c.request); });
  desk_.set_audit(front_.audit()), desk_.set_meter(&metrics_.jobs);
  for (const std::string& url : queens_.given()) {
    LLORCH_TRY(const service::Peer queen, service::make_peer(url));
    LLORCH_OK(service::check_plain_http(queen.base, options_.insecure_http));
  }
  if (const auto flaw = security::check_identifier(options_.hive_id, 64))
    return fail(ErrorCode::kInvalidRequest, "--hive-id {}", security::describe(*flaw));
  LLORCH_TRY(catalog_, Catalog::load(options_.data_dir + "/hive.db"));
  end_orphans();
  std::ifstream mounts("/proc/self/mountinfo");
  cgroup_mount_ = cgroup_mount(std::string((std::istreambuf_iterator<char>(mounts)), {}));
  Cgroup::sweep(cgroup_mount_);
  if (!options_.worker_limits.empty()) {  // a limit that is not kept must not look like one
    const auto probe = Cgroup::make(cgroup_mount_, "probe", options_.worker_limits);
    if (!probe) return std::unexpected(probe.error());
  }
#define LLORCH_ROUTE(name) add_route_##name(*this);
#include "hive_routes.inc"
#undef LLORCH_ROUTE
  LLORCH_OK(front_.bind());
  address_.emplace(hive_address_file(options_.data_dir));
  LLORCH_OK(address_->write(own_url(options_.listen, front_.port(), front_.secure())));
  for (const auto& [ref, row] : catalog_->models) measure_model(ref);
  queen_seen_ = net::Clock::now();
  log(Level::kInfo, "startup", fmt::format("{} listens on {}", options_.hive_id, front_.url()),
      {{"hive_id", options_.hive_id}, {"port", front_.port()}});
  remember_queens();
  node_token_ = options_.node_token;
  if (const std::string kept = options_.data_dir + "/node-token";
      node_token_.empty() && access(kept.c_str(), F_OK) == 0) {
    LLORCH_TRY(node_token_, security::read_secret_file(kept));
  }
  // The first heartbeat says which GPUs there are, where that can be found out in time.
  devices_.start(
      [this] {
        if (!options_.join_token_file.empty() && access(options_.join_token_file.c_str(), F_OK) == 0)
          join();
        else
          beat();
      },
      [this] {
        end_workers_of_lost_gpus();
        beat();
      },
      [this] { changed_.notify(); });
  sweep();
  probe();
  renewal_.start();
  return {};
}

colony::Capabilities Hive::capabilities() const {
  colony::Capabilities c;
  c.devices = devices_.all();
  std::size_t bytes = 0;
  for (const auto& [ref, row] : catalog_->models) {
    const colony::Model& m = row.model;
    bytes += kModelJsonBytes + m.id.size() + m.ref.size() + m.name.size() + m.error.size();
    if (bytes > kModelsBytesMax) {
      log(Level::kWarn, "models_left_out",
          fmt::format("there are too many models to tell of: {} are told", c.models.size()));
      break;
    }
    c.models.push_back(m);
  }
  for (const auto& [kind, row] : catalog_->workers) c.workers.push_back(row.worker);
  return c;
}

WorkerPtr Hive::worker_with_pid(std::int64_t pid) const {
  for (const auto& [id, w] : workers_)
    if (w->facts.pid == pid) return w;
  return nullptr;
}

std::shared_ptr<void> Hive::reserve_port(int port) {
  reserved_ports_->insert(port);
  return {nullptr, [ports = reserved_ports_, port](std::nullptr_t) { ports->erase(ports->find(port)); }};
}

bool Hive::knows(const colony::ModelRef& ref) const {
  const std::string text = ref.text();
  const auto row = catalog_->models.find(text);
  return (row != catalog_->models.end() && row->second.model.status == "Available") ||
         std::ranges::any_of(workers_, [&](const auto& w) { return w.second->facts.model_ref == text; });
}

Result<std::string> Hive::location_of(const colony::ModelRef& ref) const {
  const std::string text = ref.text();
  if (const auto it = catalog_->models.find(text); it != catalog_->models.end()) {
    if (it->second.model.status == "Available") return it->second.path;
    return fail(ErrorCode::kModelNotFound, "the model is not available here: {}",
                it->second.model.error.empty() ? it->second.model.status : it->second.model.error);
  }
  if (ref.kind == colony::ModelRef::Kind::kFile) return ref.path;
  return fail(ErrorCode::kModelNotFound, "this hive has no such model");
}

Error Hive::why_ended(const WorkerProcess& w, std::string_view when) {
  if (w.end_reason) return *w.end_reason;
  const bool killed = w.exit_code > 128;
  std::string message = fmt::format("{} ended {} {}{}{}", w.facts.worker_id, killed ? "by signal" : "with",
                                    killed ? w.exit_code - 128 : w.exit_code, when.empty() ? "" : " ", when);
  if (!w.last_error.message.empty()) message += ": " + w.last_error.message;
  return {w.last_error.code, std::move(message)};
}

void Hive::heard(WorkerProcess& w, const std::string& line) {
  constexpr std::size_t kMessageMax = 400;
  constexpr std::string_view kPlain = "error: ";  // before it has a log
  w.last_progress = net::Clock::now();
  changed_.notify();
  if (line.starts_with(kPlain))
    w.last_error = {ErrorCode::kWorkerCrashed, security::sanitize(line.substr(kPlain.size(), kMessageMax))};
  const auto parsed = json::parse(line, "log");
  const auto* o = parsed ? parsed->if_object() : nullptr;
  if (!o) return;
  if (json::find_text(*o, "action") == "model_load_progress")
    w.loaded_percent = static_cast<int>(std::min<std::uint64_t>(100, json::find_unsigned(*o, "percent").value_or(0)));
  if (json::find_text(*o, "level") != "error") return;
  const auto code = json::find_text(*o, "code");
  w.last_error = {code ? service::code_of(*code) : ErrorCode::kWorkerCrashed,
                  security::sanitize(json::find_text(*o, "message").value_or("").substr(0, kMessageMax))};
}

void Hive::exited(const WorkerPtr& w, int code) {
  w->exited = true, w->exit_code = code;
  const bool expected = w->facts.state == "stopping";
  metrics_.stop(expected ? "asked" : "crashed");
  if (!w->awake) metrics_.start("failed");
  log(expected ? Level::kInfo : Level::kWarn, "worker_exited",
      expected ? fmt::format("{} ended with {}", w->facts.worker_id, code)
               : why_ended(*w, w->awake ? "" : "while it was starting").message,
      {{"worker_id", w->facts.worker_id}, {"exit_code", code}});
  if (!expected && !stopping_) tell_failed(*w);
  workers_.erase(w->facts.worker_id);
  if (colony::is_gpu(w->facts.device)) devices_.expire_gpus();
  kernel_.run([measured = w->measured] { measured->cgroup.reset(); });
  changed_.notify();
  beat();
}

namespace {

Procedure tell(FlowPtr flow, service::Peer peer, std::string path, std::string body) {
  const auto answer = co_await service::ask(flow, peer, service::Asked("POST", path, body));
  const Status s = answer ? service::check(*answer) : Status(std::unexpected(answer.error()));
  if (!s) log(Level::kWarn, "report_failed", s.error().message);
}

/// Asks a worker how it is. One that has not answered twice in a row is ended: it holds memory, a port and requests.
Procedure probe_worker(FlowPtr flow, Hive& hive, WorkerPtr w) {
  const auto peer = service::make_peer(w->facts.uri, {}, hive.tls_name());
  if (!peer) co_return;
  service::Asked asked("GET", "/health");
  asked.idle_timeout = std::min<std::chrono::milliseconds>(std::chrono::seconds(hive.options().probe_interval_s),
                                                           std::chrono::seconds(5));
  const auto answer = co_await service::ask(flow, *peer, asked);
  if (hive.stopping() || w->exited || w->facts.state == "stopping") co_return;
  if (answer && answer->status == 200) {
    w->missed_probes = 0;
    co_return;
  }
  log(Level::kWarn, "probe_failed", fmt::format("{} does not answer its health probe", w->facts.worker_id),
      {{"worker_id", w->facts.worker_id}, {"missed", ++w->missed_probes}});
  if (w->missed_probes >= 2) w->process->signal(SIGKILL);
}

}  // namespace

void Hive::tell_failed(const WorkerProcess& w) {
  if (!queens_.any()) return;
  const auto peer = queen_peer();
  const boost::json::object body{{"hive_id", options_.hive_id},
                                 {"worker_id", w.facts.worker_id},
                                 {"exit_code", w.exit_code},
                                 {"vram_released", nullptr},
                                 {"message", why_ended(w, w.awake ? "" : "while it was starting").message}};
  if (peer) tell(gate_.flow(), *peer, "/v1/workers/failed", boost::json::serialize(body));
}

void Hive::probe() {
  for (const auto& [id, w] : workers_)
    if (w->awake && w->facts.state != "stopping") probe_worker(gate_.flow(), *this, w);
  probe_timer_ = loop_.after(std::chrono::seconds(options_.probe_interval_s), [this] { probe(); });
}

void Hive::measure_workers() {
  if (std::exchange(measuring_, true)) return;
  struct Round {
    std::vector<std::pair<std::weak_ptr<WorkerProcess>, std::shared_ptr<MeasuredProcess>>> workers;
    std::vector<ProcessFigures> figures;
    std::optional<double> machine_cpu_pct;
    net::Clock::time_point machine_at;
  };
  const auto round = std::make_shared<Round>();
  for (const auto& [id, w] : workers_) round->workers.emplace_back(w, w->measured);
  const auto measure = [round, machine = machine_] {
    for (const auto& [w, measured] : round->workers)
      round->figures.push_back(measured->meter.measure(measured->pid, measured->cgroup.get()));
    round->machine_cpu_pct = machine->measure(), round->machine_at = net::Clock::now();
  };
  kernel_.run(measure, [this, round](const Status& done) {
    measuring_ = false;
    if (!done) return;
    for (std::size_t i = 0; i < round->figures.size(); ++i)
      if (const auto w = round->workers[i].first.lock()) w->figures = std::move(round->figures[i]);
    machine_cpu_pct_ = round->machine_cpu_pct, machine_measured_at_ = round->machine_at;
    // Pages show figures that are at most two seconds old (U-01). Until the queen has taken one, heartbeats have their
    // own times: the first waits for GPUs, or for joining, and after a failure they wait longer each time.
    tell_figures();
  });
}

Status Hive::worker_beat(const boost::json::object& body) {
  const auto id = json::find_text(body, "worker_id"), state = json::find_text(body, "state"),
             token = json::find_text(body, "spawn_token"), uri = json::find_text(body, "uri");
  const auto it = id ? workers_.find(*id) : workers_.end();
  if (it == workers_.end()) return fail(ErrorCode::kWorkerNotFound, "this hive did not start such a worker");
  WorkerProcess& w = *it->second;
  if (!token || !security::equal_in_constant_time(*token, w.spawn_token))
    return fail(ErrorCode::kForbidden, "the worker does not show the token that it was started with");
  // What opens the worker is sent there: it must be exactly the address that the worker was given.
  if (!uri || *uri != service::base_url(options_.listen, static_cast<int>(w.facts.port), front_.secure()))
    return fail(ErrorCode::kForbidden, "the worker does not listen where it was told to");
  const std::string before = w.facts.state;
  w.facts.uri = *uri;
  for (const char* key : {"protocol", "memory_architecture"})
    if (const auto said = json::find_text(body, key); said && !security::check_identifier(*said, 32))
      w.about[key] = *said;
  if (const auto* list = json::find_array(body, "capabilities"); list && list->size() <= 16) {
    boost::json::array kept;
    for (const auto& v : *list)
      if (v.is_string() && !security::check_identifier(v.get_string(), 32)) kept.push_back(v);
    w.about["capabilities"] = std::move(kept);
  }
  for (const std::string_view key : colony::kWorkerOwnFigures)
    if (const auto* v = body.if_contains(key); v && v->is_number()) w.about[key] = *v;
  if (const auto quant = json::find_text(body, "quant");
      quant && quant->size() <= 32 && !security::check_display(*quant))
    w.facts.quant = *quant;
  if (w.facts.state != "stopping") w.facts.state = state && *state == "busy" ? "busy" : "ready";
  if (!std::exchange(w.awake, true)) {
    metrics_.start("ready");
    w.idle_since = w.awake_at = net::Clock::now();
  }
  // Answers that began and ended between two reports are work, too.
  const auto* idle = body.if_contains("idle_s");
  if (const double idle_s = idle && idle->is_number() ? idle->to_number<double>() : -1; idle_s >= 0) {
    const auto since =
        net::Clock::now() - std::chrono::milliseconds(static_cast<std::int64_t>(std::min(idle_s, 1e6) * 1000));
    w.idle_since = std::max(w.idle_since, since);
  }
  if (w.facts.state != before) {
    changed_.notify();
    beat();
  }
  return {};
}

std::optional<std::int64_t> Hive::stays_idle(const WorkerProcess& w) const {
  if (w.pinned || w.keep_alive == colony::ModelSettings::kAlways) return std::nullopt;
  if (w.keep_alive) return w.keep_alive;
  return options_.idle_stop_s > 0 ? std::optional<std::int64_t>(options_.idle_stop_s) : std::nullopt;
}

std::optional<double> Hive::sleeps_in(const WorkerProcess& w) const {
  const auto stays = stays_idle(w);
  if (!stays || w.facts.state != "ready") return std::nullopt;
  const std::chrono::duration<double> idle = net::Clock::now() - w.idle_since;
  return std::max(0.0, static_cast<double>(*stays) - idle.count());
}

std::string Hive::metrics_text() {
  for (const char* state : {"starting", "ready", "busy", "stopping"})
    metrics_.workers(state, std::ranges::count(workers_, state, [](const auto& w) { return w.second->facts.state; }));
  metrics_.jobs.refresh(front_.audit(), loop_);
  return metrics_.text();
}

void Hive::sweep() {
  const bool on_gpus =
      std::ranges::any_of(workers_, [](const auto& w) { return colony::is_gpu(w.second->facts.device); });
  devices_.measure(watched_ || on_gpus || !telemetry_.empty() ? DeviceWatch::Gpus::kOften : DeviceWatch::Gpus::kSeldom,
                   [this] { measure_workers(); });
  const auto now = net::Clock::now();
  for (const auto& [id, w] : workers_) {
    if (w->facts.state != "ready") w->idle_since = now;
    const auto stays = stays_idle(*w);
    if (stays && w->facts.state == "ready" && now - w->idle_since > std::chrono::seconds(*stays))
      stop_worker(gate_.flow(), *this, w, [] {});
  }
  if (!telemetry_.empty()) {
    boost::json::array list;
    for (const auto& [id, w] : workers_) list.push_back(process_stats(*this, *w));
    const boost::json::object o{{"type", "telemetry"},
                                {"hive_id", options_.hive_id},
                                {"timestamp", rfc3339(wall_now())},
                                {"workers", std::move(list)}};
    telemetry_.send("heartbeat", boost::json::serialize(o));
  }
  // A hive that a queen has started does not live without her. Silence alone does not show that she is gone: on a busy
  // machine an answer takes longer than three intervals.
  constexpr int kFailuresMax = 3;
  if (options_.queen_started && !stopping_ && beat_failures_ >= kFailuresMax &&
      now - queen_seen_ > std::chrono::seconds(kFailuresMax * options_.heartbeat_interval_s))
    shutdown("three heartbeats in a row did not reach the queen");
  sweep_timer_ = loop_.after(std::chrono::seconds(1), [this] { sweep(); });
}

/// Workers of an earlier run that was killed (H-33). The state folder's lock is ours.
void Hive::end_orphans() {
  std::error_code problem;
  std::filesystem::create_directories(options_.data_dir + "/logs", problem);
  for (const int pid : records_.end_orphans())
    log(Level::kWarn, "orphan_ended", fmt::format("a worker of an earlier run, pid {}, is ended", pid));
}

Procedure stop_worker(FlowPtr flow, Hive& hive, WorkerPtr w, std::function<void()> done) {
  const bool busy = w->facts.state == "busy";
  if (w->facts.state == "stopping" && w->exited) co_return done();
  w->facts.state = "stopping";
  hive.beat();
  if (w->awake) {
    const auto peer = service::make_peer(w->facts.uri, hive.front().token(), hive.tls_name());
    service::Asked asked("POST", "/v1/shutdown");
    asked.idle_timeout = std::chrono::seconds(5);
    if (peer) (void)co_await service::ask(flow, *peer, asked);
  } else if (w->process) {
    w->process->signal(SIGTERM);
  }
  struct Rung {
    int time_ms, signal;  // how long it has, and what it gets then
  };
  const std::array<Rung, 3> ladder{{{6000, SIGTERM}, {busy ? 5000 : 2000, SIGKILL}, {5000, 0}}};
  for (const Rung& rung : ladder) {
    const auto end = net::Clock::now() + std::chrono::milliseconds(rung.time_ms);
    while (!w->exited && net::Clock::now() < end)
      if (!co_await hive.changed().wait(flow, end - net::Clock::now()))
        co_return done();  // cancelled: stop_all goes on
    if (w->exited) break;
    if (rung.signal) w->process->signal(rung.signal);
  }
  done();
}

Procedure stop_all(FlowPtr flow, Hive& hive) {
  const auto left = std::make_shared<std::size_t>(hive.workers_.size());
  for (const auto& [id, w] : std::map<std::string, WorkerPtr>(hive.workers_))
    stop_worker(hive.ending_.errand(kStopTime), hive, w, [left, &hive] {
      --*left;
      hive.changed_.notify();
    });
  while (*left > 0)
    if (!co_await hive.changed_.wait(flow, kStopTime)) break;
  hive.database_.run([records = hive.records_] { records.clear(); });
  hive.telemetry_.close();
  (void)co_await hive.gate_.empty(flow);
}

void Hive::shutdown(std::string_view why) {
  if (std::exchange(stopping_, true)) return;
  log(Level::kInfo, "shutdown", fmt::format("shutting down: {}", why));
  beat_timer_.cancel();
  devices_.stop();
  const Error ending{ErrorCode::kShuttingDown, "the hive is shutting down"};
  deadline_.arm(kStopTime + kThreadsTime, [] { return 0; });
  desk_.cancel_all(ending);
  gate_.close(ending);
  stop_all(ending_.errand(kStopTime), *this);
  ending_.close(ending);
  ending_.when_empty([this] { loop_.stop(); });
}

}  // namespace llorch::hive
