#include "queen/queen.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ranges>
#include <set>

#include "base/ids.h"
#include "colony/address.h"
#include "queen/host_names.h"
#include "queen_start.h"
#include "security/validate.h"
#include "service/log.h"
#include "service/narration.h"
#include "service/wall_time.h"

namespace llorch::queen {

using service::FlowPtr;
using service::Level;
using service::log;
using service::Procedure;
using service::Step;

namespace {

constexpr std::chrono::seconds kStopTime{60};     // of hives, and of all that waits for them
constexpr std::chrono::seconds kThreadsTime{10};  // what is asked of disks has to end then

QueenOptions with_all_hosts(QueenOptions o) {
  o.meeting_hosts = meeting_hosts(o);
  o.allowed_hosts = admitted_hosts(o);
  return o;
}

Procedure fetch_capabilities(FlowPtr flow, Queen& q, std::string hive_id) {
  const std::string url = q.hives().find(hive_id)->url;
  const service::Asked request("GET", "/v1/capabilities");
  const auto answer = co_await q.calls().ask(flow, hive_id, request);
  HiveEntry* h = q.hives().find(hive_id);
  if (!h) co_return;  // removed meanwhile
  h->learning = false;
  if (h->url != url) {  // another one has taken its name
    q.refresh(hive_id);
    co_return;
  }
  Status s = answer ? service::check(*answer) : Status(std::unexpected(answer.error()));
  if (s) {
    auto read = colony::read_capabilities(answer->body);
    if (read) {
      h->capabilities = *std::move(read), h->known = true, h->revision = h->asked_revision;
      q.hives().update(*h);
      q.keep_hive(*h);
    } else {
      s = std::unexpected(read.error());
    }
  }
  if (!s) log(Level::kWarn, "capabilities_failed", s.error().message, {{"hive_id", hive_id}});
  q.changed().notify();
}

Procedure probe_hive(FlowPtr flow, Queen& q, std::string hive_id) {
  const service::Asked request("GET", "/health");
  (void)co_await q.calls().ask(flow, hive_id, request);  // no answer marks it
  if (HiveEntry* h = q.hives().find(hive_id)) h->probing = false;
}

}  // namespace

Queen::Queen(net::EventLoop& loop, QueenOptions options)
    : loop_(loop),
      options_(with_all_hosts(std::move(options))),
      front_(loop, options_, "llorch-queen"),
      desk_(gate_, {"queen", "queen", {}, [this](const job::Job& job) { ledger_.on_ended(job); }}),
      members_(front_.keys(), options_.data_dir),
      hives_({std::chrono::seconds(options_.missed_beats * options_.heartbeat_interval_s), options_.worker_slots}),
      calls_(gate_, hives_, changed_),
      local_(loop, service::host_name(),
             {[this] { return local_hive_invocation(); },
              [this](int) {
                hives_.erase(local_.id());
                changed_.notify();
              }}),
      placer_({calls_, local_, metrics_,
               [this] {
                 std::vector<std::string> names;
                 for (const HiveRow* row : offline_hives()) names.push_back(row->id);
                 return names;
               },
               [this] { return local_hive_wanted(); }, [this](const std::string& hive) { refresh(hive); },
               [this](const std::string& hive) { return why_offline(hive); }},
              {.evict = options_.eviction_policy == "lru",
               .hive_start_timeout = std::chrono::seconds(options_.hive_start_timeout_s),
               .worker_kind = options_.worker_kind}),
      admission_(options_, placer_.line(), metrics_),
      background_(loop),
      files_(loop, {.threads = 8, .threads_per_owner = 1}),
      ledger_(desk_, background_, metrics_),
      intake_(loop, admission_),
      tls_(loop, {options_.data_dir, service::host_name(), options_.allowed_hosts,
                  std::chrono::seconds(options_.certificate_lifetime_s)}) {}

Queen::~Queen() { front_.close(); }

bool Queen::watched() const {
  constexpr std::chrono::seconds kLooks{10};
  return looked_at_ && net::Clock::now() - *looked_at_ < kLooks;
}

Status Queen::start() {
  LLORCH_OK(options_.check());
  // Before anything in the folder is touched: a second queen would take this one's hive and jobs for orphans.
  LLORCH_TRY(lock_, StateLock::take(options_.data_dir, fmt::format("llorch-queen on port {}", options_.first_port)));
  if (options_.while_used) {
    LLORCH_TRY(uses_, UseLock::open(queen_uses_file(options_.data_dir)));
  }
  LLORCH_OK(open_tls());
  LLORCH_OK(front_.open());
  desk_.set_audit(front_.audit()), desk_.set_meter(&metrics_.jobs);
#define LLORCH_ROUTE(name) add_route_##name(*this);
#include "queen_routes.inc"
#undef LLORCH_ROUTE
  LLORCH_OK(front_.bind());  // answers before anything else is there
  address_.emplace(queen_address_file(options_.data_dir));
  LLORCH_OK(address_->write(own_url(options_.listen, front_.port(), front_.secure())));
  if (QueenStart how = options_.started_as; !how.arguments.empty() || !how.directory.empty()) {
    how.for_network = !security::is_loopback(options_.listen), how.port = front_.port();
    LLORCH_OK(write_queen_start(options_.data_dir, how));
  }
  if (tls_.opened()) tls_.keep_renewed([this] { front_.read_certificates(); });
  LLORCH_TRY(catalog_, Catalog::load(options_.data_dir + "/queen.db"));
  const bool shares = !options_.fleet.store.empty();
  LLORCH_OK(members_.open(front_.token(), local_.id(), shares ? std::map<std::string, HiveRow>() : catalog_->hives));
  ledger_.open(*catalog_);
  if (shares) LLORCH_OK(open_fleet());
  log(Level::kInfo, "startup", fmt::format("the queen listens on {}", front_.url()), {{"port", front_.port()}});
  LLORCH_OK(catalog_->save_config({{"version", LLORCH_SERVICE_VERSION},
                                   {"mode", front_.has_token() ? "lab" : "one-machine"},
                                   {"queue.capacity", std::to_string(options_.admission_capacity)},
                                   {"admission.policy", options_.admission_policy},
                                   {"eviction.worker_policy", options_.eviction_policy},
                                   {"heartbeat.interval_s", std::to_string(options_.heartbeat_interval_s)}}));
  placer_.settings() = SettingsTable(options_.model_settings, catalog_->settings);
  for (const std::string& model : options_.pinned)
    if (const auto m = resolve(model, {"", "", {security::Scope::kAdmin}})) placer_.pin(m->ref.text(), true);
  for (const std::string& ref : catalog_->pins) placer_.pin(ref, true);
  sweep();
  watch_use();
  if (options_.optimizer_enabled) optimize();
  return {};
}

/// Beyond this machine, or where people get TLS, daemons speak it too: with certificates of the colony's own authority.
Status Queen::open_tls() {
  if (!options_.wants_tls()) return {};
  LLORCH_OK(tls_.open());
  front_.use_colony_folder(tls_.folder(), [this](const auto& facts) { return tls_.authority().check(facts); });
  return tls_.trust_in(options_.data_dir + "/hive");
}

Status Queen::open_fleet() {
  if (!front_.has_token())
    return fail(ErrorCode::kInvalidRequest,
                "queens that share a store need a token, the same for all of them: --token-file");
  const std::string host = options_.meeting_hosts.empty() ? options_.listen : options_.meeting_hosts.front();
  Fleet::Self self{fmt::format("{}:{}", service::host_name(), front_.port()),
                   service::base_url(host, front_.port(), front_.secure()), rfc3339(std::chrono::system_clock::now()),
                   options_.data_dir};
  LLORCH_TRY(auto fleet, Fleet::open(loop_, options_.fleet, std::move(self), metrics_.store));
  sharing_ = std::make_unique<Sharing>(*this, std::move(fleet));
  sharing_->start(*catalog_);
  admission_.demand([this] { return sharing_->fleet().check_fresh(); });
  front_.router().demand([this](const service::Context& c) -> Status {
    constexpr std::string_view kAlways[] = {"/v1/status", "/v1/info", "/metrics", "/v1/shutdown", "/v1/heartbeat"};
    return std::ranges::find(kAlways, c.route) == std::end(kAlways) ? sharing_->fleet().check_known() : Status();
  });
  return {};
}

std::vector<const HiveRow*> Queen::offline_hives() const {
  std::vector<const HiveRow*> out;
  for (const auto& [id, row] : catalog_->hives)
    if (!hives_.online(id)) out.push_back(&row);
  return out;
}

Result<HiveEntry*> Queen::find_hive(const std::string& id) {
  const auto alive = hives_.online();
  for (const HiveEntry* h : alive)
    if (h->id == (id.empty() ? local_.id() : id)) return hives_.find(h->id);
  if (id.empty() && !alive.empty()) return hives_.find(alive.front()->id);
  if (id.empty()) return fail(ErrorCode::kHiveNotFound, "no hive is online");
  if (!knows_hive(id)) return std::unexpected(unknown_hive(id));
  return fail(ErrorCode::kHiveNotFound, "{}", why_offline(id));
}

std::string Queen::why_offline(const std::string& id) const {
  if (!tls_.is_revoked(id)) return fmt::format("the hive {} is offline", id);
  return fmt::format(
      "the hive {0} is offline: its certificates were revoked, and it must join again (`llorch hive invite "
      "--hive-id {0}`)",
      id);
}

bool Queen::knows_hive(const std::string& id) const {
  return id == local_.id() || catalog_->hives.contains(id) || hives_.find(id);
}

Error Queen::unknown_hive(const std::string& id) const {
  constexpr std::size_t kNamed = 20;
  std::set<std::string> all{local_.id()};
  for (const auto& [name, row] : catalog_->hives) all.insert(name);
  for (const auto& [name, entry] : hives_.all()) all.insert(name);
  std::string names;
  for (const std::string& name : all | std::views::take(kNamed)) names += (names.empty() ? "" : ", ") + name;
  return {ErrorCode::kHiveNotFound, fmt::format("there is no hive {}: the colony has {}{}", security::sanitize(id),
                                                names, all.size() > kNamed ? ", ..." : "")};
}

Result<ResolvedModel> Queen::resolve(std::string_view model, const security::Principal& who) const {
  const auto presence = [this](const std::string& ref) { return hives_.presence(ref); };
  return ModelResolver(catalog_->aliases, presence, options_.infer_may_fetch).resolve(model, who);
}

Status Queen::hive_beat(colony::HiveBeat beat, std::string token, const std::string& via) {
  LLORCH_TRY(service::Peer peer, service::make_peer(beat.url, std::move(token), hive_tls_name(beat.hive_id)));
  const auto sent = service::parse_rfc3339(beat.sent);
  if (!sent && !beat.sent.empty()) return fail(ErrorCode::kInvalidRequest, "ts must be a time as RFC 3339 has it");
  LLORCH_TRY(const HiveTable::BeatEffect effect, hives_.beat(std::move(beat), std::move(peer), via));
  HiveEntry& h = *effect.hive;
  if (h.id == local_.id()) local_.heard();
  calls_.open().admit(h.id);
  if (effect.came_online)
    log(Level::kInfo, "hive_online", fmt::format("hive {} is online at {}", h.id, h.url), {{"hive_id", h.id}});
  if (effect.answers_again)
    log(Level::kInfo, "hive_answers", fmt::format("hive {} answers again", h.id), {{"hive_id", h.id}});
  if (front_.audit() && effect.added) front_.audit()->append({{"event_type", "node_registered"}, {"hive_id", h.id}});
  if (sent) check_clock(h, *sent);
  if (effect.stale) refresh(h.id);
  if (sharing_ && via.empty()) sharing_->heard(h);
  changed_.notify();
  return {};
}

/// Staleness goes by our own clock; what a hive's says is only reported (S-07).
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

void Queen::revoke_certificates(const std::string& hive_id, std::function<void(Status)> then, ToldBy by) {
  if (!tls_.opened())
    return then(fail(ErrorCode::kInvalidRequest, "this queen has no authority: she serves her own machine"));
  if (hive_id == local_.id())
    return then(
        fail(ErrorCode::kInvalidRequest, "{} is the queen's own hive, which she starts and believes herself", hive_id));
  tls_.revoke(hive_id, [this, hive_id, by, then = std::move(then)](const Status& done) {
    if (done) {
      log(Level::kWarn, "certificate_revoked", fmt::format("certificates of hive {} are good no longer", hive_id));
      if (front_.audit()) front_.audit()->append({{"event_type", "certificate_revoked"}, {"hive_id", hive_id}});
      front_.server().abort_shown(
          [&](const std::string& shown) { return !tls_.check(shown, hive_id) && ColonyTls::is_of(shown, hive_id); });
      hives_.erase(hive_id);
      calls_.open().end(hive_id,
                        {ErrorCode::kWorkerUnhealthy,
                         fmt::format("the hive {} is trusted no longer: its certificates were revoked", hive_id)});
      loop_.post([this] { loop_.leave_connections(); });  // when those calls have let go of theirs
      changed_.notify();
      if (sharing_ && by == ToldBy::kHere) return sharing_->tell_revoked(hive_id, then);
    }
    then(done);
  });
}

void Queen::forget_hive(const std::string& hive_id, std::function<void(const Status&)> then) {
  const bool revoke = tls_.opened() && hive_id != local_.id();  // her own comes back with its next beat
  if (sharing_)                                                 // which brings the revocation here, too
    return sharing_->remove_hive(hive_id, revoke, [this, hive_id, then = std::move(then)](const Status& gone) {
      if (gone) forget_here(hive_id);
      then(gone);
    });
  if (revoke)
    revoke_certificates(hive_id, [](const Status& done) {
      if (!done) log(Level::kError, "not_revoked", done.error().message);
    });
  forget_here(hive_id);
  then({});
}

void Queen::forget_here(const std::string& hive_id) {
  members_.dismiss(hive_id);
  hives_.erase(hive_id);
  catalog_->hives.erase(hive_id), catalog_->models.erase(hive_id);
  background_.run([this, hive_id] {
    if (const Status s = catalog_->remove_hive(hive_id); !s) log(Level::kWarn, "catalog_failed", s.error().message);
    (void)members_.save(hive_id, "");
  });
  if (front_.audit()) front_.audit()->append({{"event_type", "node_deregistered"}, {"hive_id", hive_id}});
  changed_.notify();
}

void Queen::forget_worker(const std::string& hive_id, const std::string& worker_id) {
  hives_.forget_worker(hive_id, worker_id);
  changed_.notify();
}

Watch Queen::watch_worker(const Placed& at, PulsePtr pulse) {
  return {gate_,
          calls_.open(),
          at.hive_id,
          at.worker,
          [this, hive = at.hive_id, worker = at.worker_id] {
            placer_.stop_silent(hive, worker);
            return Error{ErrorCode::kWorkerUnhealthy, "the worker does not answer any more"};
          },
          std::move(pulse)};
}

void Queen::refresh(const std::string& hive_id) {
  HiveEntry* h = hives_.find(hive_id);
  if (!h || std::exchange(h->learning, true)) return;
  h->asked_revision = h->told_revision;
  fetch_capabilities(gate_.flow(), *this, hive_id);
}

Step<bool> Queen::keep_pin(const FlowPtr& flow, const std::string& model, bool pinned) {
  return {flow, [this, model, pinned](Step<bool>::Done done) -> std::any {
            const auto then = [done](const Status& kept) {
              done(kept ? Result<bool>(true) : std::unexpected(kept.error()));
            };
            if (sharing_) return sharing_->set_pin(model, pinned, then), std::any();
            placer_.pin(model, pinned);
            const auto saved = std::make_shared<Status>();
            background_.run([this, saved, model, pinned] { *saved = catalog_->save_pin(model, pinned); },
                            [saved, then](const Status& ran) { then(ran ? *saved : ran); });
            return {};
          }};
}

void Queen::keep_hive(const HiveEntry& h) {
  const auto text_of = [](const auto& items) {
    boost::json::array list;
    for (const auto& item : items) list.push_back(colony::to_json(item));
    return boost::json::serialize(list);
  };
  HiveRow& kept = catalog_->hives[h.id];
  const HiveRow row{h.id, h.peer.base.host, h.peer.base.port, kept.node_key, kept.joined_host};
  std::vector<colony::Model>& models = catalog_->models[h.id];
  if (kept.host == row.host && kept.port == row.port && models == h.capabilities.models) return;
  kept = row;  // new, moved, or with other models
  models = h.capabilities.models;
  if (sharing_) return h.via.empty() ? sharing_->keep_seen(row, models) : void();
  background_.run([this, row, devices = text_of(h.capabilities.devices), models = text_of(models)] {
    if (const Status saved = catalog_->save_hive(row, devices, models); !saved)
      log(Level::kWarn, "catalog_failed", saved.error().message);
  });
}

service::ProcessOptions Queen::local_hive_invocation() const {
  service::ProcessOptions o;
  o.arguments = {options_.hive_program,
                 "--queen-url",
                 own_url(options_.listen, front_.port(), front_.secure()),
                 "--hive-id",
                 local_.id(),
                 "--queen-started",
                 "--data-dir",
                 options_.data_dir + "/hive",
                 "--log-format",
                 "json",
                 "--log-level",
                 options_.log_level,
                 "--heartbeat-interval-sec",
                 std::to_string(options_.heartbeat_interval_s)};
  for (const auto& [flag, value] : {std::pair("--port", options_.hive_port),
                                    {"--worker-port", options_.worker_port},
                                    {"--idle-stop-sec", options_.idle_stop_s}})
    if (value) o.arguments.insert(o.arguments.end(), {flag, std::to_string(*value)});
  o.environment = {{"LLORCH_CONFIG", ""}, {"LLORCH_BIND", ""}, {"LLORCH_AUDIT_LOG_PATH", ""}};
  o.environment.push_back(members_.local_hive_variable());
  if (members_.keyless()) o.arguments.emplace_back("--local-mode");
  if (options_.tls) o.arguments.emplace_back("--tls");
  o.log_file = options_.data_dir + "/hive.log";
  o.death_signal = SIGTERM;
  return o;
}

std::string Queen::metrics_text() {
  metrics_.queue("interactive", line().count(false)), metrics_.queue("batch", line().count(true));
  metrics_.hives_online.Set(static_cast<double>(hives_.online().size()));
  metrics_.bodies_bytes.Set(static_cast<double>(front_.server().bodies_bytes()));
  metrics_.jobs.refresh(front_.audit(), loop_);
  if (sharing_) sharing_->fleet().measure();
  return metrics_.text() + worker_figures_text(hives_);
}

void Queen::sweep() {
  if (!broadcast_.empty()) {
    boost::json::array hive_ids, worker_ids;
    std::int64_t workers_available = 0, hives_available = 0;
    for (const HiveEntry* h : hives_.online()) {
      hive_ids.emplace_back(h->id), hives_available += !h->silent;
      for (const auto& w : h->workers) worker_ids.emplace_back(w.worker_id), workers_available += w.state == "ready";
    }
    const boost::json::object o{{"type", "queen"},
                                {"workers_online", worker_ids.size()},
                                {"workers_available", workers_available},
                                {"hives_online", hive_ids.size()},
                                {"hives_available", hives_available},
                                {"worker_ids", worker_ids},
                                {"hive_ids", hive_ids},
                                {"timestamp", rfc3339(std::chrono::system_clock::now())}};
    broadcast_.send("heartbeat", boost::json::serialize(o));
  }
  ledger_.save_marks();
  intake_.sweep();
  probe_waited_for();
  if (sharing_) sharing_->sweep();
  if (options_.eviction_policy == "lru") relieve_pressure();
  sweep_timer_ = loop_.after(std::chrono::milliseconds(2500), [this] { sweep(); });
}

void Queen::watch_use() {
  // A thread could wait for the lock, but could not be told to stop. The command that leaves last waits for the end.
  constexpr std::chrono::milliseconds kEvery{50};
  if (!uses_ || stopping_) return;
  const auto unused = uses_->close_if_unused();
  if (!unused) {
    log(Level::kError, "use_unknown", fmt::format("{}: the queen stays until she is stopped", unused.error().message));
    return uses_.reset();
  }
  if (*unused) return shutdown("no command uses this queen any more");
  use_timer_ = loop_.after(kEvery, [this] { watch_use(); });
}

void Queen::stay() {
  if (!stopping_) uses_.reset();
}

void Queen::probe_waited_for() {
  constexpr std::chrono::seconds kQuiet{4};
  if (line().count() == 0) return;
  for (const HiveEntry* h : hives_.responsive()) {
    const bool busy = !h->known || std::ranges::any_of(h->workers, [](const auto& w) {
      return w.state == "starting" || w.state == "stopping";
    });
    if (!busy || net::Clock::now() - h->seen < kQuiet) continue;
    if (!std::exchange(hives_.find(h->id)->probing, true)) probe_hive(gate_.flow(), *this, h->id);
  }
}

void Queen::relieve_pressure() {
  for (const HiveEntry* h : hives_.responsive()) {
    if (!h->via.empty()) continue;  // the queen that hears it does that
    for (const colony::Device& d : h->capabilities.devices) {
      if (!d.memory_total || !d.memory_free || *d.memory_total <= 0) continue;
      const double used = 1 - static_cast<double>(*d.memory_free) / static_cast<double>(*d.memory_total);
      if (used <= options_.vram_threshold || hives_.any_leaving(h->id)) continue;
      auto workers = hives_.workers_of(h->id, placer_.pinned());
      std::erase_if(workers, [&d](const Evictable& w) { return w.device != d.id; });
      // A GPU is there for its model: one alone may fill it until another one wants the room.
      if (colony::is_gpu(d.id) && workers.size() < 2 && !placer_.room_line().has(place_key(h->id, d.id))) continue;
      const Evictable* victim = choose_idle(workers);
      if (!victim) continue;
      log(Level::kInfo, "evict",
          fmt::format("the memory of {} on {} is nearly full: {} goes, it was used least recently", d.id, h->id,
                      victim->worker_id));
      placer_.stop_idle(*victim);
    }
  }
}

void Queen::optimize() {
  advice_.clear();
  if (line().count() > options_.optimizer_threshold)
    for (const std::string& text : advise(line().by_model(), hives_.view_all())) {
      log(Level::kInfo, "advice", text);
      advice_.emplace_back(text);
    }
  optimizer_timer_ = loop_.after(std::chrono::milliseconds(options_.optimizer_interval_ms), [this] { optimize(); });
}

namespace {

/// Hives that she has started, or all, then herself.
Procedure stop_everything(FlowPtr flow, Queen& q, bool all) {
  const auto known = q.hives().all();
  for (const auto& [id, h] : known)
    if ((all && h.via.empty()) || (id == q.local_hive().id() && q.local_hive().running())) {
      const service::Peer peer = h.peer;
      service::Asked request("POST", "/v1/shutdown");
      request.idle_timeout = kProbeTimeout;
      const auto answer = co_await service::ask(flow, peer, request);
      if (!answer && flow->cancelled()) co_return;
    }
  if (q.local_hive().running()) (void)co_await q.local_hive().stop(flow);
  q.broadcast().close();
  if (Sharing* sharing = q.sharing()) {
    Step<bool> leaving{flow, [sharing](Step<bool>::Done done) -> std::any {
                         sharing->fleet().leave([done] { done(true); });
                         return {};
                       }};
    (void)co_await leaving;
  }
  if (!co_await q.gate().empty(flow)) co_return;
  q.front().server().stop_accepting();
  service::Signal sent;  // answers that are still on their way
  auto all_sent = [&sent] { sent.notify(); };
  q.front().server().when_no_connections(all_sent);
  const auto in_time = co_await sent.wait(flow, std::chrono::seconds(1));
  q.front().server().when_no_connections({});
  if (!in_time) co_return;
  // What was written last must reach the disk.
  auto written = [] { return true; };
  (void)co_await service::in_background(flow, q.background(), written);
}

}  // namespace

void Queen::shutdown(std::string_view why, bool all) {
  if (std::exchange(stopping_, true)) return;
  log(Level::kInfo, "shutdown", fmt::format("shutting down: {}", why));
  const Error ending{ErrorCode::kShuttingDown, "the queen is shutting down"};
  admission_.close();
  intake_.close();
  desk_.cancel_all(ending);
  gate_.close(ending);
  deadline_.arm(kStopTime + kThreadsTime, [] { return 0; });
  stop_everything(ending_.errand(kStopTime), *this, all);
  ending_.close(ending);
  ending_.when_empty([this] { loop_.stop(); });
}

}  // namespace llorch::queen
