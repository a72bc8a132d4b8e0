// How a request finds a worker: the line, the decision, and the making of a worker where there is none (Q-05, steps 3
// to 10).
#include <ranges>

#include "format/json.h"
#include "queen/queen.h"
#include "service/log.h"

namespace llorch::queen {

using service::FlowPtr;
using service::Procedure;
using service::Step;

/// A place in the line, given up when it goes.
class Line {
 public:
  Line(Queen& q, std::string model, bool batch, const FlowPtr& flow)
      : q_(q), at_(q.line_.join(std::move(model), batch, [weak = std::weak_ptr(flow)] {
          if (const auto alive = weak.lock())
            alive->cancel({ErrorCode::kQueueFull, "the queue is full, and a later request came before this one"});
        })) {}
  ~Line() {
    q_.line_.leave(at_);
    q_.changed_.notify();
  }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;
  [[nodiscard]] bool first() const { return q_.line_.first(at_); }

 private:
  Queen& q_;
  WaitingLine::Place at_;
};

/// A worker is being made; others wait for it.
class Provisioning {
 public:
  Provisioning(Queen& q, std::string key) : q_(q), key_(std::move(key)) { q_.provisioning_.insert(key_); }
  ~Provisioning() {
    q_.provisioning_.erase(key_);
    q_.changed_.notify();
  }
  Provisioning(const Provisioning&) = delete;
  Provisioning& operator=(const Provisioning&) = delete;

 private:
  Queen& q_;
  std::string key_;
};

namespace {

constexpr int kEvictionsMax = 8;  // of one request, waits for others' included

using Value = boost::json::value;

Procedure call_off(FlowPtr flow, service::Peer hive, std::string path) {
  (void)co_await service::ask(flow, hive, service::Asked("DELETE", path));
}

Procedure operate(FlowPtr flow, Queen& q, service::Peer hive, boost::json::object order, std::shared_ptr<Relay> relay,
                  std::string correlation_id, Step<Value>::Done done) {
  service::Asked asked("POST", "/v1/jobs", boost::json::serialize(order));
  asked.headers.add("X-Correlation-Id", correlation_id);
  const auto made = co_await service::ask(flow, hive, asked);
  if (!made) co_return done(std::unexpected(made.error()));
  if (const Status s = service::check(*made); !s) co_return done(std::unexpected(s.error()));
  const auto* o = made->body.if_object();
  const auto url = o ? json::find_text(*o, "sse_url") : std::nullopt;
  const auto id = o ? json::find_text(*o, "job_id") : std::nullopt;
  if (!url || !id) co_return done(fail(ErrorCode::kInternal, "the hive's answer lacks job_id or sse_url"));
  const auto result = std::make_shared<Value>();
  const auto error = std::make_shared<std::optional<Error>>();
  service::OnEvent on_event = [result, error, relay](std::string_view type, const boost::json::object& data) {
    if (type == "result")
      *result = data.contains("result") ? data.at("result") : Value();
    else if (type == "error")
      *error = Error{service::code_of(json::find_text(data, "code").value_or("")),
                     json::find_text(data, "message").value_or("the hive failed")};
    else if (relay && *relay && (type == "narration" || type == "progress" || type == "log"))
      (*relay)(type, data);
  };
  const auto followed = co_await service::follow(flow, hive, *url, on_event);
  if (!followed) {
    if (flow->cancelled()) call_off(q.gate().errand(), hive, net::url_path("/v1/jobs").segment(*id));
    co_return done(std::unexpected(followed.error()));
  }
  if (*error) co_return done(std::unexpected(**error));
  done(std::move(*result));
}

/// Several operations at once.
struct Together {
  int left = 0;
  std::optional<Error> error;
  std::vector<FlowPtr> flows;
};

Procedure part(FlowPtr flow, Queen& q, service::Peer hive, boost::json::object order, std::shared_ptr<Relay> relay,
               std::string correlation_id, std::shared_ptr<Together> together) {
  const auto value = co_await q.on_hive(flow, hive, order, relay, correlation_id);
  if (!value && !together->error) together->error = value.error();
  --together->left;
  q.changed().notify();
}

const colony::Model* find_model(const HiveEntry& h, const std::string& ref) {
  for (const auto& m : h.capabilities.models)
    if (m.ref == ref && m.status == "Available") return &m;
  return nullptr;
}

bool has_worker(const HiveEntry& h, const std::string& kind) {
  return std::ranges::any_of(h.capabilities.workers, [&](const auto& w) { return w.kind == kind; });
}
boost::json::object spawn_order(const Queen& q, const std::string& model, const Decision& d) {
  boost::json::object order{
      {"operation", "worker_spawn"}, {"model", model}, {"worker", d.worker_kind}, {"device", d.device}};
  if (q.pinned(model)) order["pinned"] = true;
  return order;
}
std::string worker_of(const Value& spawned) {
  const auto* o = spawned.if_object();
  return o ? json::find_text(*o, "worker_id").value_or("") : "";
}
/// The port of a worker that says it is awake.
std::optional<int> awake_at(const HiveEntry& h, const std::string& id) {
  for (const auto& w : h.workers)
    if (w.worker_id == id && (w.state == "ready" || w.state == "busy")) return w.port;
  return {};
}

std::unexpected<Error> removed(const std::string& hive) {
  return fail(ErrorCode::kHiveNotFound, "the hive {} has been removed", hive);
}

/// Everything that a hive needs before it can start a worker, then the worker.
Procedure provision(FlowPtr flow, Queen& q, std::shared_ptr<Placing> p, Decision d, Step<bool>::Done done) {
  const HiveEntry* known = q.hive(d.hive);
  if (!known) co_return done(removed(d.hive));
  const service::Peer hive = known->peer;
  const auto relay = std::make_shared<Relay>(p->relay);
  const std::string check = net::url_path("/v1/memory-check").query("device", d.device).query("model", p->wish.model);
  p->tell("memory_check", fmt::format("asking {} whether {} has room on {}", d.hive, p->wish.model, d.device));
  const auto room = co_await service::ask(flow, hive, service::Asked("GET", check));
  if (!room) co_return done(std::unexpected(room.error()));
  Status verdict = service::check(*room);
  const bool missing = !verdict && verdict.error().code == ErrorCode::kModelNotFound;
  if (!verdict && !missing) co_return done(std::unexpected(verdict.error()));
  if (verdict) p->tell("memory_room", fmt::format("{} has room", d.hive));
  known = q.hive(d.hive);
  if (!known) co_return done(removed(d.hive));
  const bool cached = find_model(*known, p->wish.model) || (!missing && p->ref.kind == colony::ModelRef::Kind::kFile);
  const bool installed = has_worker(*known, d.worker_kind);
  const auto together = std::make_shared<Together>();
  const auto begin = [&](const boost::json::object& order) {
    together->flows.push_back(q.gate().flow());
    ++together->left;
    part(together->flows.back(), q, hive, order, relay, p->correlation_id, together);
  };
  if (cached) {
    p->tell("model_cached", fmt::format("{} is on {} already", p->wish.model, d.hive));
  } else {
    p->tell("model_fetch", fmt::format("{} is not on {}: fetching it", p->wish.model, d.hive));
    begin({{"operation", "model_download"}, {"model", p->wish.model}});
  }
  if (installed) {
    p->tell("worker_installed", fmt::format("the {} worker is installed on {}", d.worker_kind, d.hive));
  } else {
    p->tell("worker_install", fmt::format("{} has no {} worker yet: installing it", d.hive, d.worker_kind));
    begin({{"operation", "worker_install"}, {"worker_id", d.worker_kind}});
  }
  while (together->left > 0) {
    const auto changed = co_await q.changed().wait(flow, std::chrono::seconds(1));
    if (changed) continue;
    for (const FlowPtr& f : together->flows) f->cancel(changed.error());
    co_return done(std::unexpected(changed.error()));
  }
  if (together->error) co_return done(std::unexpected(*together->error));
  if (missing) {
    const auto again = co_await service::ask(flow, hive, service::Asked("GET", check));
    if (!again) co_return done(std::unexpected(again.error()));
    if (const Status s = service::check(*again); !s) co_return done(std::unexpected(s.error()));
    p->tell("memory_room", fmt::format("{} has room", d.hive));
  }
  if (!together->flows.empty()) q.learn(d.hive);
  p->tell("worker_spawn",
          fmt::format("telling {} to start a {} worker with {} on {}", d.hive, d.worker_kind, p->wish.model, d.device));
  const boost::json::object order = spawn_order(q, p->wish.model, d);
  const auto spawned = co_await q.on_hive(flow, hive, order, relay, p->correlation_id);
  if (!spawned) co_return done(std::unexpected(spawned.error()));
  const std::string id = worker_of(*spawned);
  // The worker's own heartbeat, passed on by the hive, says that it is awake.
  const auto end = net::Clock::now() + std::chrono::seconds(15);
  while (true) {
    known = q.hive(d.hive);
    if (!known) co_return done(removed(d.hive));
    if (const auto port = awake_at(*known, id)) {
      p->tell("worker_awake", fmt::format("{} on {} is awake at port {}", id, d.hive, *port));
      co_return done(true);
    }
    if (net::Clock::now() > end)
      co_return done(fail(ErrorCode::kLoadingTimeout, "the worker's heartbeat did not come"));
    const auto changed = co_await q.changed().wait(flow, std::chrono::seconds(1));
    if (!changed) co_return done(std::unexpected(changed.error()));
  }
}

/// A hive's "no" that another hive need not share.
bool about_this_hive(ErrorCode code) {
  return code != ErrorCode::kModelNotFound && code != ErrorCode::kDownloadFailed && code != ErrorCode::kCancelled &&
         code != ErrorCode::kShuttingDown && code != ErrorCode::kInvalidRequest && code != ErrorCode::kModelLoadFailed;
}

}  // namespace

Step<Value> Queen::on_hive(const FlowPtr& flow, const service::Peer& hive, boost::json::object order,
                           std::shared_ptr<Relay> relay, std::string correlation_id) {
  return {flow,
          [this, flow, hive, order = std::move(order), relay = std::move(relay),
           correlation_id = std::move(correlation_id)](Step<Value>::Done done) -> std::any {
            operate(flow, *this, hive, order, relay, correlation_id, std::move(done));
            return {};
          }};
}

static std::unexpected<Error> nobody_is_online(const Queen& q) {
  constexpr std::size_t kNamed = 5;
  const auto away = q.offline_hives();
  std::string names;
  for (const HiveRow* row : away | std::views::take(kNamed)) names += (names.empty() ? "" : ", ") + row->id;
  return fail(ErrorCode::kNoWorkersAvailable, "no hive of the catalog is online: {}{}", names,
              away.size() > kNamed ? fmt::format(" and {} more", away.size() - kNamed) : "");
}

/// Brings up a hive where none is online. The wait for its first heartbeat is the queen's only one: she does not poll.
Procedure wake_hive(FlowPtr flow, Queen& q, std::shared_ptr<Placing> p, Step<bool>::Done done) {
  if (!q.local_hive_wanted()) co_return done(nobody_is_online(q));
  if (!q.hive_process_running()) {
    p->tell("hive_catalog", q.catalog().hives.empty() ? "the hive catalog is empty: adding this machine"
                                                      : "no hive is online: starting this machine's");
    if (const Status s = q.start_local_hive(); !s) co_return done(std::unexpected(s.error()));
    p->tell("hive_start", fmt::format("the hive {} is starting", q.local_id()));
  }
  p->tell("hive_wait", "waiting for its first heartbeat");
  const auto end = net::Clock::now() + std::chrono::seconds(q.options().hive_start_timeout_s);
  while (q.online().empty()) {
    if (!q.hive_process_running())
      co_return done(fail(ErrorCode::kNoWorkersAvailable, "the hive did not start: {}", q.hive_words()));
    if (net::Clock::now() > end)
      co_return done(fail(ErrorCode::kOperationTimeout, "the hive's first heartbeat timed out after {} seconds",
                          q.options().hive_start_timeout_s));
    const auto changed = co_await q.changed().wait(flow, std::chrono::milliseconds(200));
    if (!changed) co_return done(std::unexpected(changed.error()));
  }
  p->tell("hive_awake", fmt::format("the first heartbeat of {} has come", q.online().front()->id));
  while (!q.online().empty() && !q.online().front()->known) {
    const auto changed = co_await q.changed().wait(flow, std::chrono::milliseconds(200));
    if (!changed) co_return done(std::unexpected(changed.error()));
    if (net::Clock::now() > end)
      co_return done(fail(ErrorCode::kOperationTimeout, "the hive's capabilities timed out"));
  }
  if (!q.online().empty()) {
    const auto& c = q.online().front()->capabilities;
    p->tell("capabilities",
            fmt::format("{} has {} device{}, {} model{}, {} installed worker{}", q.online().front()->id,
                        c.devices.size(), c.devices.size() == 1 ? "" : "s", c.models.size(),
                        c.models.size() == 1 ? "" : "s", c.workers.size(), c.workers.size() == 1 ? "" : "s"));
  }
  done(true);
}

static Procedure stop_there(FlowPtr flow, Queen& q, std::string hive_id, std::string worker_id, std::int64_t pid,
                            std::shared_ptr<Relay> relay, std::string correlation_id, Step<bool>::Done done) {
  const HiveEntry* known = q.hive(hive_id);
  if (!known) co_return done(removed(hive_id));
  const service::Peer hive = known->peer;
  const boost::json::object order{{"operation", "worker_process_delete"}, {"pid", pid}};
  const auto gone = co_await q.on_hive(flow, hive, order, relay, correlation_id);
  if (!gone && gone.error().code != ErrorCode::kWorkerNotFound) co_return done(std::unexpected(gone.error()));
  q.forget_worker(hive_id, worker_id);
  done(true);
}

Step<bool> Queen::stop_worker(const FlowPtr& flow, std::string hive_id, std::string worker_id, std::int64_t pid,
                              std::shared_ptr<Relay> relay, std::string correlation_id) {
  return {flow, [=, this](Step<bool>::Done done) -> std::any {
            stop_there(flow, *this, hive_id, worker_id, pid, relay, correlation_id, std::move(done));
            return {};
          }};
}

/// A worker that is wanted less goes, when its requests have ended.
Procedure make_room(FlowPtr flow, Queen& q, std::shared_ptr<Placing> p, Evictable victim, Step<bool>::Done done) {
  const std::string key = victim.hive + "/" + victim.worker_id;
  const auto count = q.inflight(victim.hive, victim.worker_id);
  q.leaving_.insert(key);
  if (const HiveEntry* h = q.hive(victim.hive)) q.enter(*h);
  p->tell("evict", fmt::format("{} on {}, with {}, makes room{}", victim.worker_id, victim.hive, victim.model,
                               *count > 0 ? " when its requests have ended" : ""));
  std::optional<Error> stopped;
  while (*count > 0 && !stopped) {
    const auto changed = co_await q.changed().wait(flow, std::chrono::seconds(1));
    if (!changed) stopped = changed.error();
  }
  if (!stopped) {
    const auto relay = std::make_shared<Relay>(p->relay);
    const auto gone = co_await q.stop_worker(flow, victim.hive, victim.worker_id, victim.pid, relay, p->correlation_id);
    if (!gone) stopped = gone.error();
  }
  q.leaving_.erase(key);
  if (!stopped) q.metrics_.evictions.Increment();
  if (const HiveEntry* h = q.hive(victim.hive); h && stopped) q.enter(*h);
  q.changed().notify();
  if (stopped) co_return done(std::unexpected(*stopped));
  done(true);
}

/// Room on one of these hives, by stopping a worker there, or by waiting for one that is being stopped. False: none is
/// to be had. `crowded`: hives that only lack memory.
Procedure relieve(FlowPtr flow, Queen& q, std::shared_ptr<Placing> p, Reasons crowded, Step<bool>::Done done) {
  if (q.options_.eviction_policy != "lru") co_return done(false);
  const auto others = [&] {  // somebody else's room is being made there
    return std::ranges::any_of(q.leaving_,
                               [&](const std::string& key) { return crowded.contains(key.substr(0, key.find('/'))); });
  };
  for (bool waited = false; waited || others(); waited = true) {
    if (!others()) co_return done(true);
    const auto changed = co_await q.changed_.wait(flow, std::chrono::seconds(1));
    if (!changed) co_return done(std::unexpected(changed.error()));
  }
  const auto workers = q.evictable(crowded, p->wish.model);
  const Evictable* chosen = choose_eviction(workers);
  if (!chosen) co_return done(false);
  const Evictable victim = *chosen;
  const Provisioning marked(q, victim.hive + "|" + p->wish.model);
  Step<bool> leaving{flow, [&](Step<bool>::Done then) -> std::any {
                       make_room(flow, q, p, victim, std::move(then));
                       return {};
                     }};
  const auto room = co_await leaving;
  if (!room && flow->cancelled()) co_return done(std::unexpected(room.error()));
  if (!room) p->tell("evict_failed", fmt::format("it does not: {}", room.error().message));
  done(true);
}

Result<Placed> Queen::seat(const Decision& d) {
  const HiveEntry* h = hive(d.hive);
  if (!h) return removed(d.hive);
  for (const auto& w : h->workers)
    if (w.worker_id == d.worker_id) {
      LLORCH_TRY(service::Peer peer, service::make_peer(w.uri, h->peer.token));
      const auto freed = [this, key = d.hive + "/" + d.worker_id] {
        const auto now = net::Clock::now().time_since_epoch();
        used_[key] = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
        changed_.notify();
      };
      return Placed{d.hive, d.worker_id, w.model_ref, std::move(peer),
                    std::make_shared<Seat>(inflight(d.hive, d.worker_id), freed)};
    }
  return fail(ErrorCode::kInternal, "the chosen worker is gone");
}

Procedure place_work(FlowPtr flow, Queen& q, std::shared_ptr<Placing> p, Step<Placed>::Done done) {
  const Line line(q, p->wish.model, p->batch, flow);
  Reasons refusals, crowded;  // crowded: those that only lack memory
  int evictions = 0;
  bool told_wait = false;
  while (true) {
    if (flow->cancelled()) co_return done(std::unexpected(*flow->cancelled()));
    if (line.first() && q.online().empty()) {
      auto waking = q.wake(flow, p);
      const auto awake = co_await waking;
      if (!awake) co_return done(std::unexpected(awake.error()));
      continue;
    }
    const auto before = net::Clock::now();
    Decision d{Decision::Kind::kWait, "", "", "", "", "others are before it in the line"};
    if (line.first()) {
      d = decide(q.view(p->wish, refusals), p->wish);
      q.metrics_.scheduling_ms.Observe(std::chrono::duration<double, std::milli>(net::Clock::now() - before).count());
    }
    if (d.kind == Decision::Kind::kUse) {
      auto seated = q.seat(d);
      if (seated) p->tell("schedule", d.why);
      co_return done(std::move(seated));
    }
    if (d.kind == Decision::Kind::kNone && !crowded.empty() && evictions++ < kEvictionsMax) {
      Step<bool> crowding{flow, [&](Step<bool>::Done then) -> std::any {
                            relieve(flow, q, p, crowded, std::move(then));
                            return {};
                          }};
      const auto relieved = co_await crowding;
      if (!relieved) co_return done(std::unexpected(relieved.error()));
      if (*relieved) {
        refusals.clear(), crowded.clear();
        continue;
      }
    }
    if (d.kind == Decision::Kind::kNone)
      co_return done(fail(ErrorCode::kNoWorkersAvailable, "nothing can run the model: {}", d.why));
    if (d.kind == Decision::Kind::kProvision) {
      p->tell("schedule", d.why);
      const Provisioning marked(q, d.hive + "|" + p->wish.model);
      Step<bool> making{flow, [&](Step<bool>::Done then) -> std::any {
                          provision(flow, q, p, d, std::move(then));
                          return {};
                        }};
      const auto made = co_await making;
      if (made) continue;
      if (!about_this_hive(made.error().code)) co_return done(std::unexpected(made.error()));
      p->tell("provision_failed", fmt::format("{} cannot: {}", d.hive, made.error().message));
      refusals[d.hive] = made.error().message;
      if (made.error().code == ErrorCode::kInsufficientMemory || made.error().code == ErrorCode::kInsufficientVram)
        crowded[d.hive] = d.device;
      continue;
    }
    if (!std::exchange(told_wait, true)) p->tell("queue", "waiting: " + d.why);
    const auto changed = co_await q.changed_.wait(flow, std::chrono::seconds(1));
    if (!changed) co_return done(std::unexpected(changed.error()));
  }
}

Step<bool> Queen::wake(const FlowPtr& flow, std::shared_ptr<Placing> p) {
  return {flow, [this, flow, p = std::move(p)](Step<bool>::Done done) -> std::any {
            wake_hive(flow, *this, p, std::move(done));
            return {};
          }};
}

Step<Placed> Queen::place(const FlowPtr& flow, std::shared_ptr<Placing> p) {
  return {flow, [this, flow, p = std::move(p)](Step<Placed>::Done done) -> std::any {
            place_work(flow, *this, p, std::move(done));
            return {};
          }};
}

}  // namespace llorch::queen
