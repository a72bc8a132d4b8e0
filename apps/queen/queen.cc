#include "queen/queen.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <random>

#include "base/ids.h"
#include "colony/address.h"
#include "format/json.h"
#include "service/log.h"
#include "service/narration.h"
#include "service/wall_time.h"

namespace llorch::queen {

using service::FlowPtr;
using service::Level;
using service::log;
using service::Procedure;

namespace {

/// Where this machine's hive reaches a queen that listens there.
std::string own_url(const std::string& listen, int port) {
  if (!colony::is_any_address(listen)) return service::base_url(listen, port);
  return service::base_url(listen.contains(':') ? "::1" : "127.0.0.1", port);
}

constexpr std::uint64_t kSeqBeyondMark = 10'000;  // more events than a stream has between two marks

Procedure learn_from(FlowPtr flow, Queen& q, std::string hive_id) {
  const HiveEntry& asked = *q.hive(hive_id);
  const std::string url = asked.url;
  const service::Peer peer = asked.peer;
  const auto answer = co_await service::ask(flow, peer, service::Asked("GET", "/v1/capabilities"));
  HiveEntry* now = q.hive(hive_id);
  if (!now) co_return;  // removed meanwhile
  HiveEntry& h = *now;
  h.learning = false;
  if (h.url != url) {  // another one has taken its name
    q.learn(hive_id);
    co_return;
  }
  Status s = answer ? service::check(*answer) : Status(std::unexpected(answer.error()));
  if (s) {
    auto read = colony::read_capabilities(answer->body);
    if (read) {
      h.capabilities = *std::move(read), h.known = true, h.revision = h.asked_revision;
      q.enter(h);
      HiveRow& kept = q.catalog().hives[h.id];
      const HiveRow row{h.id, h.peer.base.host, h.peer.base.port, kept.node_key, kept.joined_host};
      if (kept.host != row.host || kept.port != row.port) {  // new, or moved
        kept = row;
        boost::json::array devices;
        for (const auto& d : h.capabilities.devices) devices.push_back(colony::to_json(d));
        q.background().run([&q, row, text = boost::json::serialize(devices)] {
          if (const Status saved = q.catalog().save_hive(row, text); !saved)
            log(Level::kWarn, "catalog_failed", saved.error().message);
        });
      }
      q.changed().notify();
      co_return;
    }
    s = std::unexpected(read.error());
  }
  log(Level::kWarn, "capabilities_failed", s.error().message, {{"hive_id", hive_id}});
  q.changed().notify();
}

}  // namespace

Queen::Queen(net::EventLoop& loop, QueenOptions options)
    : loop_(loop),
      options_(std::move(options)),
      front_(loop, options_, "llorch-queen"),
      desk_(gate_, {"queen", "queen", {}, [this](const job::Job& job) { ended(job); }}),
      members_(front_.keys(), options_.data_dir),
      local_id_(service::host_name()),
      background_(loop) {}

Queen::~Queen() { front_.close(); }

Status Queen::start() {
  LLORCH_OK(options_.check());
  // Before anything in the folder is touched: a second queen would take this one's hive and jobs for orphans.
  LLORCH_TRY(lock_, StateLock::take(options_.data_dir, fmt::format("llorch-queen on port {}", options_.first_port)));
  LLORCH_OK(front_.open());
  desk_.set_audit(front_.audit()), desk_.set_meter(&metrics_.jobs);
#define LLORCH_ROUTE(name) add_route_##name(*this);
#include "queen_routes.inc"
#undef LLORCH_ROUTE
  LLORCH_OK(front_.bind());  // answers before anything else is there
  LLORCH_TRY(catalog_, Catalog::load(options_.data_dir + "/queen.db"));
  LLORCH_OK(members_.open(front_.token(), local_id_, catalog_->hives));
  const auto now = std::chrono::system_clock::now();
  for (const JobRow& row : catalog_->lost) {
    // Readers may have seen some events after the last mark.
    const std::uint64_t next = static_cast<std::uint64_t>(row.last_seq) + kSeqBeyondMark;
    const auto job =
        desk_.jobs().restore(row.id, {.principal = row.principal, .operation = row.operation, .resumable = true}, next,
                             net::Clock::now(), now);
    const Error error{ErrorCode::kWorkerCrashed, "the queen was restarted while the job was open"};
    desk_.jobs().finish(*job, job::State::kFailed, error, "error", service::error_event(error, next), net::Clock::now(),
                        now);
  }
  log(Level::kInfo, "startup", fmt::format("the queen listens on {}:{}", options_.listen, front_.port()),
      {{"port", front_.port()}});
  LLORCH_OK(catalog_->save_config({{"version", LLORCH_SERVICE_VERSION},
                                   {"mode", front_.has_token() ? "lab" : "one-machine"},
                                   {"queue.capacity", std::to_string(options_.admission_capacity)},
                                   {"admission.policy", options_.admission_policy},
                                   {"eviction.worker_policy", options_.eviction_policy},
                                   {"heartbeat.interval_s", std::to_string(options_.heartbeat_interval_s)}}));
  for (const std::string& model : options_.pinned)
    if (const auto ref = resolve(model)) pinned_.insert(ref->text());
  sweep();
  if (options_.optimizer_enabled) optimize();
  return {};
}

std::vector<Evictable> Queen::evictable(const std::map<std::string, std::string>& hives,
                                        const std::string& model) const {
  std::vector<Evictable> out;
  for (const auto& [id, why] : hives) {
    const auto h = hives_.find(id);
    if (h == hives_.end() || !live(h->second)) continue;
    for (const auto& w : h->second.workers) {
      const std::string key = id + "/" + w.worker_id;
      if (w.model_ref == model || (w.state != "ready" && w.state != "busy") || leaving_.contains(key)) continue;
      const auto used = used_.find(key);
      out.push_back({id, w.worker_id, w.model_ref, w.pid, used == used_.end() ? 0 : used->second,
                     *inflight(id, w.worker_id), pinned_.contains(w.model_ref)});
    }
  }
  return out;
}

std::vector<const HiveEntry*> Queen::online() const {
  std::vector<const HiveEntry*> out;
  for (const auto& [id, h] : hives_)
    if (live(h)) out.push_back(&h);
  return out;
}

bool Queen::online(const std::string& hive_id) const {
  const auto h = hives_.find(hive_id);
  return h != hives_.end() && live(h->second);
}

std::vector<const HiveRow*> Queen::offline_hives() const {
  std::vector<const HiveRow*> out;
  for (const auto& [id, row] : catalog_->hives)
    if (!online(id)) out.push_back(&row);
  return out;
}

Result<HiveEntry*> Queen::find_hive(const std::string& id) {
  const auto alive = online();
  for (const HiveEntry* h : alive)
    if (h->id == (id.empty() ? local_id_ : id)) return &hives_[h->id];
  if (id.empty() && !alive.empty()) return &hives_[alive.front()->id];
  return fail(ErrorCode::kHiveNotFound, "{}", id.empty() ? "no hive is online" : "no hive of that name is online");
}

Result<colony::ModelRef> Queen::resolve(std::string_view model) const {
  LLORCH_TRY(colony::ModelRef ref, colony::parse_model_ref(model));
  if (ref.kind != colony::ModelRef::Kind::kAlias) return ref;
  const auto it = catalog_->aliases.find(ref.name);
  if (it == catalog_->aliases.end()) return fail(ErrorCode::kModelNotFound, "there is no such alias");
  return colony::parse_model_ref(it->second);
}

Status Queen::hive_beat(colony::HiveBeat beat, std::string token) {
  LLORCH_TRY(service::Peer peer, service::make_peer(beat.url, std::move(token)));
  const auto sent = service::parse_rfc3339(beat.sent);
  if (!sent && !beat.sent.empty()) return fail(ErrorCode::kInvalidRequest, "ts must be a time as RFC 3339 has it");
  HiveEntry& h = hives_[beat.hive_id];
  const bool alive = !h.id.empty() && live(h);
  if (alive && h.url != beat.url)
    return fail(ErrorCode::kResourceInUse, "a hive of this name is alive at another address");
  if (!alive)
    log(Level::kInfo, "hive_online", fmt::format("hive {} is online at {}", beat.hive_id, beat.url),
        {{"hive_id", beat.hive_id}});
  if (front_.audit() && h.id.empty())
    front_.audit()->append({{"event_type", "node_registered"}, {"hive_id", beat.hive_id}});
  h.id = beat.hive_id, h.url = beat.url, h.version = beat.version;
  h.peer = std::move(peer), h.workers = std::move(beat.workers), h.node = std::move(beat.node);
  // Keys are "hive/worker": a beat looks at its own hive's alone, however many workers the colony has.
  const std::string prefix = h.id + "/";
  for (auto it = used_.lower_bound(prefix); it != used_.end() && it->first.starts_with(prefix);) {
    const bool stays = std::ranges::any_of(
        h.workers, [&](const auto& w) { return std::string_view(it->first).substr(prefix.size()) == w.worker_id; });
    it = stays ? std::next(it) : used_.erase(it);
  }
  h.seen = net::Clock::now(), h.told_revision = beat.revision;
  if (sent) check_clock(h, *sent);
  // What changes all the time comes with the beat; the rest is asked for when it has changed.
  bool gpu = false;
  const auto* total = h.node.if_contains("ram_total_mb");
  const auto* used = h.node.if_contains("ram_used_mb");
  for (colony::Device& d : h.capabilities.devices) {
    gpu |= d.type == "gpu";
    if (d.id == "cpu" && total && used && total->is_int64() && used->is_int64())
      d.memory_free = std::max<std::int64_t>(0, total->get_int64() - used->get_int64()) << 20;
  }
  enter(h);
  if (!alive || !h.known || gpu || beat.revision.empty() || beat.revision != h.revision) {
    learn(h.id);
  }
  changed_.notify();
  return {};
}

void Queen::check_clock(HiveEntry& h, std::chrono::system_clock::time_point sent) {
  constexpr std::chrono::seconds kTolerated{30};
  const auto off = std::chrono::duration_cast<std::chrono::seconds>(sent - std::chrono::system_clock::now());
  const bool skewed = std::chrono::abs(off) > kTolerated;
  if (skewed && h.clock_skew == std::chrono::seconds(0))
    log(Level::kWarn, "clock_skew",
        fmt::format("the clock of hive {} is {} s {} ours", h.id, std::abs(off.count()),
                    off.count() > 0 ? "ahead of" : "behind"),
        {{"hive_id", h.id}, {"clock_skew_s", off.count()}});
  h.clock_skew = skewed ? off : std::chrono::seconds(0);
}

void Queen::forget_hive(const std::string& hive_id) {
  members_.dismiss(hive_id);
  hives_.erase(hive_id);
  directory_.erase(hive_id);
  catalog_->hives.erase(hive_id);
  background_.run([this, hive_id] {
    if (const Status s = catalog_->remove_hive(hive_id); !s) log(Level::kWarn, "catalog_failed", s.error().message);
    (void)members_.save(hive_id, "");
  });
  if (front_.audit()) front_.audit()->append({{"event_type", "node_deregistered"}, {"hive_id", hive_id}});
  changed_.notify();
}

void Queen::learn(const std::string& hive_id) {
  HiveEntry* h = hive(hive_id);
  if (!h || std::exchange(h->learning, true)) return;
  h->asked_revision = h->told_revision;
  learn_from(gate_.flow(), *this, hive_id);
}

void Queen::forget_worker(const std::string& hive_id, const std::string& worker_id) {
  for (auto& [id, h] : hives_)
    if (hive_id.empty() || id == hive_id) {
      std::erase_if(h.workers, [&](const colony::WorkerFacts& w) { return w.worker_id == worker_id; });
      enter(h);
    }
  changed_.notify();
}

std::shared_ptr<int> Queen::inflight(const std::string& hive, const std::string& worker) const {
  auto& count = inflight_[hive + "/" + worker];
  if (!count) count = std::make_shared<int>(0);
  return count;
}

void Queen::enter(const HiveEntry& h) {
  HiveView v;
  v.id = h.id, v.known = h.known;
  for (const auto& d : h.capabilities.devices) v.devices.push_back({d.id, d.type, d.memory_free.value_or(0)});
  for (const auto& w : h.workers)
    v.workers.push_back({w.worker_id, w.model_ref, w.device, w.kind,
                         !leaving_.empty() && leaving_.contains(h.id + "/" + w.worker_id) ? "stopping" : w.state, 0,
                         options_.worker_slots});
  directory_.put(std::move(v));
}

std::vector<HiveView> Queen::view(const Wish& wish, const std::map<std::string, std::string>& refusals) const {
  Directory::Moment now;
  now.provisioning = &provisioning_, now.refusals = &refusals;
  now.online = [this](const std::string& id) { return online(id); };
  now.inflight = [this](const std::string& hive, const std::string& worker) { return *inflight(hive, worker); };
  return directory_.relevant(wish, now);
}

Status QueenOptions::check() const {
  if (!tls_certificate.empty())
    return fail(ErrorCode::kInvalidRequest,
                "--tls-cert: daemons do not speak TLS with each other yet, so no hive could reach this queen; put a "
                "proxy that speaks TLS before her");
  if (default_deadline_ms > max_deadline_ms)
    return fail(ErrorCode::kInvalidRequest, "timeout.default_ms is above timeout.max_ms");
  if (retry_first_ms > retry_max_ms)
    return fail(ErrorCode::kInvalidRequest, "retry.initial_delay_ms is above retry.max_delay_ms");
  if (mode == "lab" && local_mode)
    return fail(ErrorCode::kInvalidRequest, "mode lab and local-mode exclude each other");
  if (mode == "lab" && token_file.empty() && keys_file.empty() && !std::getenv("LLORCH_API_TOKEN") &&
      !std::getenv("LLORCH_API_TOKEN_FILE"))
    return fail(ErrorCode::kInvalidRequest, "mode lab needs a token");
  for (const std::string& model : pinned) LLORCH_OK(colony::parse_model_ref(model));
  return {};
}

std::chrono::milliseconds QueenOptions::retry_pause(int n) const {
  double ms = retry_first_ms;
  for (int i = 1; i < n && ms < retry_max_ms; ++i) ms *= retry_multiplier;
  ms = std::min<double>(ms, retry_max_ms);
  // Those that failed together do not come back together.
  if (retry_jitter) ms *= 0.8 + 0.2 * static_cast<double>(std::random_device{}() % 1000) / 1000;
  return std::chrono::milliseconds(static_cast<std::int64_t>(ms));
}

bool Queen::take_deadline(const service::ContextPtr& c, boost::json::object& body, Deadline& d) {
  if (const auto header = c->request.headers.get("X-Deadline")) d.header = *header, d.at = c->deadline;
  std::int64_t relative = options_.default_deadline_ms;
  if (const auto* v = body.if_contains("deadline_ms"); v && !v->is_null()) {
    if (!v->is_int64() || v->get_int64() < 1 || v->get_int64() > options_.max_deadline_ms)
      return c->fail({ErrorCode::kInvalidRequest,
                      fmt::format("deadline_ms must be a whole number from 1 to {}", options_.max_deadline_ms)},
                     {}, "deadline_ms"),
             false;
    relative = v->get_int64();
    body.erase("deadline_ms");  // from here on it is a point in time, which waiting does not move
  }
  const auto now = std::chrono::system_clock::now();
  if (!d.at && relative > 0) {
    d.at = now + std::chrono::milliseconds(relative);
    d.header = std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(d.at->time_since_epoch()).count());
  }
  if (!d.at || *d.at > now) return true;
  metrics_.jobs.deadline("before_compute");
  metrics_.jobs.deadline_exceeded_by_ms.Observe(std::chrono::duration<double, std::milli>(now - *d.at).count());
  const auto ms = [](auto t) { return std::chrono::duration_cast<std::chrono::milliseconds>(t).count(); };
  c->fail({ErrorCode::kDeadlineExceeded, "the deadline has passed"},
          {{"deadline_ms", ms(d.at->time_since_epoch())}, {"elapsed_ms", 0}, {"exceeded_by_ms", ms(now - *d.at)}});
  return false;
}

net::EventLoop::Timer Queen::guard(const FlowPtr& flow, const Deadline& d) {
  if (!d.at) return {};
  const auto left = std::chrono::duration_cast<net::Clock::duration>(*d.at - std::chrono::system_clock::now());
  return loop_.after(std::max(left, net::Clock::duration::zero()), [this, weak = std::weak_ptr(flow)] {
    const auto alive = weak.lock();
    if (!alive) return;
    metrics_.jobs.deadline("queued");
    alive->cancel({ErrorCode::kDeadlineExceeded, "the deadline passed while the request was waiting"});
  });
}

bool Queen::admit(const service::ContextPtr& c, bool batch) {
  if (stopping_) return c->fail({ErrorCode::kShuttingDown, "the queen is shutting down"}), false;
  const int waiting = line_.count();
  if (options_.admission_capacity < 0 || waiting < options_.admission_capacity)
    return metrics_.enqueued("accepted"), true;
  if (options_.admission_policy == "drop-lru")
    if (const auto* out = line_.least_wanted(batch); out && out->drop) {
      const auto drop = out->drop;  // it goes with its entry
      metrics_.enqueued("dropped");
      metrics_.backpressure.Increment();
      drop();
      return metrics_.enqueued("accepted"), true;
    }
  metrics_.rejected.Increment();
  metrics_.backpressure.Increment();
  metrics_.enqueued("rejected");
  c->fail({ErrorCode::kQueueFull, "the queue is full"}, {{"retry_after_ms", 1000},
                                                         {"backoff_ms", 1000},
                                                         {"queue_depth", waiting},
                                                         {"queue_capacity", options_.admission_capacity}});
  return false;
}

Status Queen::start_local_hive() {
  if (hive_process_running()) return {};
  service::ProcessOptions o;
  o.arguments = {options_.hive_program,
                 "--port",
                 std::to_string(options_.hive_port),
                 "--queen-url",
                 own_url(options_.listen, front_.port()),
                 "--hive-id",
                 local_id_,
                 "--queen-started",
                 "--data-dir",
                 options_.data_dir + "/hive",
                 "--log-format",
                 "json",
                 "--log-level",
                 options_.log_level,
                 "--heartbeat-interval-sec",
                 std::to_string(options_.heartbeat_interval_s),
                 "--worker-port",
                 std::to_string(options_.worker_port),
                 "--idle-stop-sec",
                 std::to_string(options_.idle_stop_s)};
  o.environment = {{"LLORCH_CONFIG", ""}, {"LLORCH_BIND", ""}, {"LLORCH_AUDIT_LOG_PATH", ""}};
  o.environment.push_back(members_.local_hive_variable());
  if (members_.keyless()) o.arguments.emplace_back("--local-mode");
  o.log_file = options_.data_dir + "/hive.log";
  o.death_signal = SIGTERM;
  LLORCH_TRY(hive_process_, service::Process::start(
                                loop_, std::move(o),
                                [this](const std::string& line) {
                                  const auto parsed = json::parse(line, "log");
                                  const auto message = parsed && parsed->is_object()
                                                           ? json::find_text(parsed->get_object(), "message")
                                                           : std::nullopt;
                                  hive_words_ = message.value_or(line);
                                },
                                [this](int code) {
                                  log(Level::kInfo, "hive_exited", fmt::format("the local hive ended with {}", code));
                                  hives_.erase(local_id_);
                                  directory_.erase(local_id_);
                                  changed_.notify();
                                }));
  return {};
}

boost::json::array Queen::models() const {
  std::map<std::string, boost::json::object> all;
  for (const HiveEntry* h : online()) {
    for (const auto& m : h->capabilities.models) {
      auto& o = all[m.ref];
      if (o.empty())
        o = {{"id", m.ref},
             {"object", "model"},
             {"created", 0},
             {"owned_by", "local"},
             {"meta", {{"quant", m.quant}, {"size_bytes", m.size_bytes}, {"state", m.status}, {"fits", true}}}};
    }
    for (const auto& w : h->workers)
      if (w.state == "ready" || w.state == "busy") {
        auto& o = all[w.model_ref];
        if (o.empty())
          o = {{"id", w.model_ref},
               {"object", "model"},
               {"created", 0},
               {"owned_by", "local"},
               {"meta", boost::json::object()}};
        o["meta"].get_object()["state"] = "loaded";
      }
  }
  if (all.empty())
    all["builtin:haiku"] = {{"id", "builtin:haiku"},
                            {"object", "model"},
                            {"created", 0},
                            {"owned_by", "local"},
                            {"meta", {{"state", "Available"}, {"fits", true}}}};
  boost::json::array list;
  for (auto& [ref, o] : all) list.push_back(std::move(o));
  return list;
}

boost::json::object Queen::overview() const {
  boost::json::array hives, workers;
  for (const HiveEntry* h : online()) {
    boost::json::array devices;
    for (const auto& d : h->capabilities.devices) devices.push_back(colony::to_json(d));
    hives.push_back({{"id", h->id},
                     {"url", h->url},
                     {"version", h->version},
                     {"devices", std::move(devices)},
                     {"node", h->node},
                     {"known", h->known},
                     {"clock_skew_s", h->clock_skew.count()},
                     {"seen_s_ago", std::chrono::duration<double>(net::Clock::now() - h->seen).count()}});
    for (const auto& w : h->workers) {
      boost::json::object o = colony::to_json(w);
      o["hive_id"] = h->id;
      o["inflight"] = *inflight(h->id, w.worker_id);
      workers.push_back(std::move(o));
    }
  }
  boost::json::array offline;
  for (const HiveRow* row : offline_hives())
    offline.push_back({{"id", row->id}, {"host", row->host}, {"port", row->port}});
  const int interactive = line_.count(false), batch = line_.count(true);
  return {{"version", LLORCH_VERSION},
          {"uptime_s", std::chrono::duration<double>(net::Clock::now() - started_).count()},
          {"hives", std::move(hives)},
          {"offline", std::move(offline)},
          {"workers", std::move(workers)},
          {"queue", {{"interactive", interactive}, {"batch", batch}, {"capacity", options_.admission_capacity}}},
          {"advice", advice_},
          {"models", models()}};
}

std::string Queen::metrics_text() {
  metrics_.queue("interactive", line_.count(false)), metrics_.queue("batch", line_.count(true));
  metrics_.hives_online.Set(static_cast<double>(online().size()));
  metrics_.jobs.refresh(front_.audit());
  return metrics_.text();
}

void Queen::sweep() {
  const auto alive = online();
  if (!broadcast_.empty()) {
    boost::json::array hive_ids, worker_ids;
    std::int64_t available = 0;
    for (const HiveEntry* h : alive) {
      hive_ids.emplace_back(h->id);
      for (const auto& w : h->workers) worker_ids.emplace_back(w.worker_id), available += w.state == "ready";
    }
    const boost::json::object o{{"type", "queen"},
                                {"workers_online", worker_ids.size()},
                                {"workers_available", available},
                                {"hives_online", hive_ids.size()},
                                {"hives_available", hive_ids.size()},
                                {"worker_ids", worker_ids},
                                {"hive_ids", hive_ids},
                                {"timestamp", rfc3339(std::chrono::system_clock::now())}};
    broadcast_.send("heartbeat", boost::json::serialize(o));
  }
  save_marks();
  if (options_.eviction_policy == "lru") relieve_pressure();
  sweep_timer_ = loop_.after(std::chrono::milliseconds(2500), [this] { sweep(); });
}

namespace {

Procedure stop_idle(FlowPtr flow, Queen& q, Evictable victim, std::function<void()> done) {
  const auto silent = std::make_shared<Relay>();
  const auto gone = co_await q.stop_worker(flow, victim.hive, victim.worker_id, victim.pid, silent, "");
  if (!gone) log(Level::kWarn, "evict_failed", gone.error().message);
  done();
}

}  // namespace

void Queen::relieve_pressure() {
  for (const HiveEntry* h : online())
    for (const colony::Device& d : h->capabilities.devices) {
      if (!d.memory_total || !d.memory_free || *d.memory_total <= 0) continue;
      const double used = 1 - static_cast<double>(*d.memory_free) / static_cast<double>(*d.memory_total);
      const bool leaving = std::ranges::any_of(leaving_, [&](const auto& key) { return key.starts_with(h->id + "/"); });
      if (used <= options_.vram_threshold || leaving) continue;
      const auto workers = evictable({{h->id, ""}}, "");
      const Evictable* victim = choose_eviction(workers);
      if (!victim || victim->inflight > 0) continue;
      const std::string key = victim->hive + "/" + victim->worker_id;
      log(Level::kInfo, "evict",
          fmt::format("the memory of {} on {} is nearly full: {} goes, it was used least recently", d.id, h->id,
                      victim->worker_id));
      leaving_.insert(key);
      enter(*h);
      metrics_.evictions.Increment();
      stop_idle(gate_.flow(), *this, *victim, [this, key] { leaving_.erase(key); });
    }
}

void Queen::optimize() {
  advice_.clear();
  if (line_.count() > options_.optimizer_threshold)
    for (const std::string& text : advise(line_.by_model(), directory_.all())) {
      log(Level::kInfo, "advice", text);
      advice_.emplace_back(text);
    }
  optimizer_timer_ = loop_.after(std::chrono::milliseconds(options_.optimizer_interval_ms), [this] { optimize(); });
}

/// Hives that she has started, or all, then herself.
Procedure stop_everything(FlowPtr flow, Queen& q, bool all) {
  for (const auto& [id, h] : std::map<std::string, HiveEntry>(q.hives_))
    if (all || (id == q.local_id_ && q.hive_process_running())) {
      const service::Peer peer = h.peer;
      (void)co_await service::ask(flow, peer, service::Asked("POST", "/v1/shutdown"));
    }
  if (q.hive_process_running()) {
    q.hive_process_->signal(SIGTERM);
    const auto end = net::Clock::now() + std::chrono::seconds(10);
    while (q.hive_process_running() && net::Clock::now() < end)
      if (!co_await q.changed_.wait(flow, end - net::Clock::now())) break;
    if (q.hive_process_running()) q.hive_process_->signal(SIGKILL);
  }
  q.broadcast_.close();
  if (!co_await q.gate_.empty(flow)) co_return;
  q.front_.server().stop_accepting();
  for (int i = 0; i < 100 && q.front_.server().connections() > 0; ++i)  // answers that are still on their way
    if (!co_await service::pause(flow, std::chrono::milliseconds(10))) co_return;
  // What was written last must reach the disk.
  auto written = [] { return true; };
  (void)co_await service::in_background(flow, q.background_, written);
}

void Queen::shutdown(std::string_view why, bool all) {
  if (std::exchange(stopping_, true)) return;
  log(Level::kInfo, "shutdown", fmt::format("shutting down: {}", why));
  const Error ending{ErrorCode::kShuttingDown, "the queen is shutting down"};
  desk_.cancel_all(ending);
  gate_.close(ending);
  stop_everything(ending_.errand(std::chrono::seconds(60)), *this, all);
  ending_.close(ending);
  ending_.when_empty([this] { loop_.stop(); });
}

}  // namespace llorch::queen
