// What a hive does for a request before it can run: memory, model, worker program, worker; and room by stopping others.
#include <csignal>
#include <ranges>

#include "colony/operations.h"
#include "format/json.h"
#include "queen/placer.h"

namespace llorch::queen {

using service::FlowPtr;
using service::Procedure;
using service::Step;
using Value = boost::json::value;

namespace {

constexpr std::chrono::seconds kFirstHeartbeat{15};  // of a worker that its hive says is awake
constexpr int kKilledMax = 3;                        // hives of our own, while one request waits for one

/// Several operations at once.
struct Together {
  int left = 0;
  std::optional<Error> error;
  std::vector<FlowPtr> flows;
};

Procedure part(FlowPtr flow, HiveCalls& calls, std::string hive, boost::json::object order, PlacementPtr p,
               std::shared_ptr<Together> together) {
  const auto relay = std::make_shared<Relay>(p->relay);
  const auto value = co_await calls.run(flow, hive, order, relay, p->correlation_id);
  if (!value && !together->error) together->error = value.error();
  --together->left;
  calls.changed().notify();
}

const colony::Model* find_model(const HiveEntry& h, const std::string& ref) {
  for (const auto& m : h.capabilities.models)
    if (m.ref == ref && m.status == "Available") return &m;
  return nullptr;
}

bool has_worker(const HiveEntry& h, const std::string& kind) {
  return std::ranges::any_of(h.capabilities.workers, [&](const auto& w) { return w.kind == kind; });
}

boost::json::object spawn_order(const Placer& q, const Placement& p, const Decision& d) {
  boost::json::object order{{"operation", "worker_spawn"},
                            {"model", p.wanted.model},
                            {"worker", d.worker_kind},
                            {"device", d.device},
                            {"allow", p.access.text()}};
  if (q.pinned().contains(p.wanted.model)) order["pinned"] = true;
  if (const auto settings = q.settings().of(p.ref); !settings.empty()) order["settings"] = settings.json();
  return order;
}

std::string memory_check_path(const Placer& q, const Placement& p, const Decision& d) {
  auto path = net::url_path("/v1/memory-check");
  path.query("device", d.device).query("allow", p.access.text()).query("model", p.wanted.model);
  const auto settings = q.settings().of(p.ref);
  for (const auto& [parameter, key] : colony::kMemoryParameters)
    if (const std::string value = settings.text(key); !value.empty()) path.query(parameter, value);
  return path;
}

std::string worker_of(const Value& spawned) {
  const auto* o = spawned.if_object();
  return o ? json::find_text(*o, "worker_id").value_or("") : "";
}

/// The port of a worker that says it is awake.
std::optional<int> awake_at(const HiveEntry& h, const std::string& id) {
  for (const auto& w : h.workers)
    if (w.worker_id == id && (w.state == "ready" || w.state == "busy")) return static_cast<int>(w.port);
  return {};
}

/// What a hive answers when it is asked whether a worker would have room.
struct MemoryAnswer {
  Status verdict;
  std::optional<ShortOfRoom> short_of;
};
MemoryAnswer read_memory_answer(const Decision& d, const service::JsonAnswer& answer) {
  MemoryAnswer out{service::check(answer), std::nullopt};
  const auto* o = answer.body.if_object();
  const auto* error = o ? json::find_object(*o, "error") : nullptr;
  const auto* details = error ? json::find_object(*error, "details") : nullptr;
  if (out.verdict || !details) return out;
  const auto figure = [&](const char* name) -> std::optional<std::int64_t> {
    const auto* v = details->if_contains(name);
    if (!v || !v->is_int64() || v->get_int64() < 0 || v->get_int64() > colony::kFigureMax) return std::nullopt;
    return v->get_int64();
  };
  const auto need = figure("needed_bytes"), room = figure("room_bytes");
  if (need && room && *need > *room)
    out.short_of = ShortOfRoom{d.hive, d.device, *need, *room, figure("capacity_bytes"), {}};
  return out;
}

/// Fetches the model and installs the worker program, at the same time. Errors: the first of theirs.
Procedure fetch_parts(FlowPtr flow, Placer& q, PlacementPtr p, Decision d, bool fetch, bool install,
                      Step<bool>::Done done) {
  HiveCalls& calls = q.uses().calls;
  const auto together = std::make_shared<Together>();
  const auto begin = [&](const boost::json::object& order) {
    together->flows.push_back(calls.gate().flow());
    ++together->left;
    part(together->flows.back(), calls, d.hive, order, p, together);
  };
  if (fetch) {
    p->report("model_fetch", fmt::format("{} is not on {}: fetching it", p->wanted.model, d.hive));
    begin({{"operation", "model_download"}, {"model", p->wanted.model}, {"allow", p->access.text()}});
  } else {
    p->report("model_cached", fmt::format("{} is on {} already", p->wanted.model, d.hive));
  }
  if (install) {
    p->report("worker_install", fmt::format("{} has no {} worker yet: installing it", d.hive, d.worker_kind));
    begin({{"operation", "worker_install"}, {"worker_id", d.worker_kind}});
  } else {
    p->report("worker_installed", fmt::format("the {} worker is installed on {}", d.worker_kind, d.hive));
  }
  while (together->left > 0) {
    const auto changed = co_await q.changed().wait(flow, std::chrono::seconds(1));
    if (changed) continue;
    for (const FlowPtr& f : together->flows) f->cancel(changed.error());
    co_return done(std::unexpected(changed.error()));
  }
  if (together->error) co_return done(std::unexpected(*together->error));
  done(!together->flows.empty());
}

/// The worker's own heartbeat, passed on by the hive, says that it is awake.
Procedure await_worker(FlowPtr flow, Placer& q, PlacementPtr p, std::string hive, std::string worker,
                       Step<bool>::Done done) {
  const auto end = net::Clock::now() + kFirstHeartbeat;
  while (true) {
    const HiveEntry* known = q.hives().find(hive);
    if (!known) co_return done(std::unexpected(removed(hive)));
    if (const auto port = awake_at(*known, worker)) {
      p->report("worker_awake", fmt::format("{} on {} is awake at port {}", worker, hive, *port));
      co_return done(true);
    }
    if (net::Clock::now() > end)
      co_return done(fail(ErrorCode::kLoadingTimeout, "the worker's heartbeat did not come"));
    const auto changed = co_await q.changed().wait(flow, std::chrono::seconds(1));
    if (!changed) co_return done(std::unexpected(changed.error()));
  }
}

Provisioned failed(Error error, bool had_room = false) { return {std::move(error), had_room, std::nullopt}; }

Procedure make_worker(FlowPtr flow, Placer& q, PlacementPtr p, Decision d, std::function<void()> on_promised,
                      Step<Provisioned>::Done done) {
  HiveCalls& calls = q.uses().calls;
  const service::Asked check("GET", memory_check_path(q, *p, d));
  p->report("memory_check", fmt::format("asking {} whether {} has room on {}", d.hive, p->wanted.model, d.device));
  const auto room = co_await calls.ask(flow, d.hive, check);
  if (!room) co_return done(failed(room.error()));
  const MemoryAnswer answer = read_memory_answer(d, *room);
  const bool missing = !answer.verdict && answer.verdict.error().code == ErrorCode::kModelNotFound;
  if (!answer.verdict && !missing) co_return done(Provisioned{answer.verdict.error(), false, answer.short_of});
  if (!missing) p->report("memory_room", fmt::format("{} has room", place_name(d.hive, d.device)));
  const HiveEntry* known = q.hives().find(d.hive);
  if (!known) co_return done(failed(removed(d.hive)));
  // One whose file has gone since is fetched again.
  const bool cached = !missing && (find_model(*known, p->wanted.model) || p->ref.kind == colony::ModelRef::Kind::kFile);
  const bool installed = has_worker(*known, d.worker_kind);
  Step<bool> parts{flow, [&](Step<bool>::Done then) -> std::any {
                     fetch_parts(flow, q, p, d, !cached, !installed, std::move(then));
                     return {};
                   }};
  const auto fetched = co_await parts;
  if (!fetched) co_return done(failed(fetched.error()));
  if (missing) {
    const auto again = co_await calls.ask(flow, d.hive, check);
    if (!again) co_return done(failed(again.error()));
    const MemoryAnswer now = read_memory_answer(d, *again);
    if (!now.verdict) co_return done(Provisioned{now.verdict.error(), false, now.short_of});
    p->report("memory_room", fmt::format("{} has room", place_name(d.hive, d.device)));
  }
  if (*fetched) q.uses().refresh(d.hive);
  p->report("worker_spawn", fmt::format("telling {} to start a {} worker with {} on {}", d.hive, d.worker_kind,
                                        p->wanted.model, d.device));
  const auto relay =
      std::make_shared<Relay>([relay = p->relay, on_promised](std::string_view type, const boost::json::object& data) {
        if (type == "progress") on_promised();  // the hive has begun: the memory is promised
        if (relay) relay(type, data);
      });
  const boost::json::object order = spawn_order(q, *p, d);
  const auto spawned = co_await calls.run(flow, d.hive, order, relay, p->correlation_id);
  if (!spawned) co_return done(failed(spawned.error(), true));
  const std::string worker = worker_of(*spawned);
  Step<bool> waking{flow, [&](Step<bool>::Done then) -> std::any {
                      await_worker(flow, q, p, d.hive, worker, std::move(then));
                      return {};
                    }};
  const auto awake = co_await waking;
  done(awake ? Provisioned{} : failed(awake.error()));
}

Procedure stop_one(FlowPtr flow, Placer& q, PlacementPtr p, Evictable victim, Step<bool>::Done done) {
  const auto count = q.hives().inflight(victim.hive, victim.worker_id);
  p->report("evict", fmt::format("{} on {}, with {}, makes room{}", victim.worker_id, victim.hive, victim.model,
                                 *count > 0 ? " when its requests have ended" : ""));
  while (*count > 0) {
    const auto changed = co_await q.changed().wait(flow, std::chrono::seconds(1));
    if (!changed) co_return done(std::unexpected(changed.error()));
  }
  const auto relay = std::make_shared<Relay>(p->relay);
  const auto gone = co_await q.uses().calls.stop_worker(flow, victim, relay, p->correlation_id);
  if (gone) q.uses().metrics.evictions.Increment();
  done(gone);
}

Procedure stop_all(FlowPtr flow, Placer& q, PlacementPtr p, std::vector<Evictable> victims, Step<bool>::Done done) {
  // From now on they get no further requests.
  for (const Evictable& v : victims) q.hives().set_leaving(v.hive, v.worker_id, true);
  Result<bool> outcome = true;
  for (const Evictable& v : victims) {
    if (outcome) {
      Step<bool> stopping{flow, [&](Step<bool>::Done then) -> std::any {
                            stop_one(flow, q, p, v, std::move(then));
                            return {};
                          }};
      outcome = co_await stopping;
    }
    q.hives().set_leaving(v.hive, v.worker_id, false);
  }
  q.changed().notify();
  done(std::move(outcome));
}

std::unexpected<Error> nobody_is_online(const std::vector<std::string>& away) {
  if (away.empty())
    return fail(ErrorCode::kNoWorkersAvailable,
                "no hive is online, and none has joined: `llorch hive start` on a machine of the colony, or a queen "
                "without --no-own-hive");
  constexpr std::size_t kNamed = 5;
  std::string names;
  for (const std::string& id : away | std::views::take(kNamed)) names += (names.empty() ? "" : ", ") + id;
  return fail(ErrorCode::kNoWorkersAvailable, "no hive of the catalog is online: {}{}", names,
              away.size() > kNamed ? fmt::format(" and {} more", away.size() - kNamed) : "");
}

/// A hive of our own that hangs is ended, once nothing runs there: it cannot be told to.
void replace_silent_hive(Placer& q, const Placement& p) {
  LocalHive& local = q.uses().local;
  const HiveEntry* own = q.hives().find(local.id());
  if (!local.running() || !own || !own->silent || q.hives().inflight_of(local.id()) > 0) return;
  if (net::Clock::now() - own->silent_since < q.options().replace_silent_after) return;
  p.report("hive_replace", fmt::format("{} still does not answer: another one is started", local.id()));
  local.signal(SIGKILL);
}

/// Hives of which one must answer: this machine's, where the placement names it, or all.
struct Awaited {
  Placer& q;
  bool own;
  [[nodiscard]] std::vector<const HiveEntry*> online() const {
    auto all = q.hives().online();
    if (own) std::erase_if(all, [this](const HiveEntry* h) { return h->id != q.uses().local.id(); });
    return all;
  }
  /// Null: none answers.
  [[nodiscard]] const HiveEntry* first() const {
    const auto all = online();
    const auto found = std::ranges::find_if(all, [](const HiveEntry* h) { return !h->silent; });
    return found == all.end() ? nullptr : *found;
  }
  /// Why this machine's is started.
  [[nodiscard]] const char* reason() const {
    if (own && !q.hives().online().empty()) return "starting this machine's hive beside the others";
    return q.uses().offline().empty() && online().empty() ? "the hive catalog is empty: adding this machine"
                                                          : "no hive is online: starting this machine's";
  }
};

/// The wait for a heartbeat is the queen's only one: she does not poll.
Procedure bring_up(FlowPtr flow, Placer& q, PlacementPtr p, Step<bool>::Done done) {
  LocalHive& local = q.uses().local;
  const Awaited awaited{q, p->wanted.hive == local.id()};
  std::optional<net::Clock::time_point> end;  // of the wait for a hive that was started
  int killed = 0;
  while (!awaited.first()) {
    const HiveEntry* own = q.hives().find(local.id());
    const auto silent = awaited.online();
    const bool started_by_hand = own && q.hives().online(local.id()) && !local.running();
    if (!silent.empty())
      p->report("hive_unknown", fmt::format("{} does not answer: waiting for its next heartbeat", silent.front()->id));
    if (q.uses().local_wanted() && !started_by_hand) {
      replace_silent_hive(q, *p);
      if (!local.running()) {
        p->report("hive_catalog", awaited.reason());
        const auto started = co_await local.start(flow);
        if (!started) co_return done(std::unexpected(started.error()));
        p->report("hive_start", fmt::format("the hive {} is starting", local.id()));
        end = net::Clock::now() + q.options().hive_start_timeout;
      }
      if (silent.empty()) {
        if (!end) end = net::Clock::now() + q.options().hive_start_timeout;
        p->report("hive_wait", "waiting for its first heartbeat");
      }
    } else if (silent.empty()) {
      co_return done(nobody_is_online(q.uses().offline()));
    }
    if (end && silent.empty() && net::Clock::now() > *end)
      co_return done(fail(ErrorCode::kOperationTimeout, "the hive's first heartbeat timed out after {} seconds",
                          q.options().hive_start_timeout.count()));
    const auto changed = co_await q.changed().wait(flow, std::chrono::milliseconds(200));
    if (!changed) co_return done(std::unexpected(changed.error()));
    // One that was ended by a signal is worth another try; one that says why it cannot is not.
    if (end && !local.running() && awaited.online().empty() && (!local.killed() || ++killed > kKilledMax))
      co_return done(fail(ErrorCode::kNoWorkersAvailable, "the hive did not start: {}", local.last_message()));
  }
  if (end) p->report("hive_awake", fmt::format("the first heartbeat of {} has come", awaited.first()->id));
  const auto known_by = net::Clock::now() + q.options().hive_start_timeout;
  while (awaited.first() && !awaited.first()->known) {
    const auto changed = co_await q.changed().wait(flow, std::chrono::milliseconds(200));
    if (!changed) co_return done(std::unexpected(changed.error()));
    if (net::Clock::now() > known_by)
      co_return done(fail(ErrorCode::kOperationTimeout, "the hive's capabilities timed out"));
  }
  if (const HiveEntry* h = awaited.first()) {
    const auto& c = h->capabilities;
    const auto counted = [](std::size_t n, const char* what) {
      return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
    };
    p->report("capabilities",
              fmt::format("{} has {}, {}, {}", h->id, counted(c.devices.size(), "device"),
                          counted(c.models.size(), "model"), counted(c.workers.size(), "installed worker")));
  }
  done(true);
}

}  // namespace

Step<Provisioned> provision(const FlowPtr& flow, Placer& placer, PlacementPtr p, const Decision& d,
                            std::function<void()> on_promised) {
  return {flow,
          [flow, &placer, p = std::move(p), d,
           on_promised = std::move(on_promised)](Step<Provisioned>::Done done) -> std::any {
            make_worker(flow, placer, p, d, on_promised, std::move(done));
            return {};
          }};
}

Step<bool> evict(const FlowPtr& flow, Placer& placer, PlacementPtr p, std::vector<Evictable> victims) {
  return {flow, [flow, &placer, p = std::move(p), victims = std::move(victims)](Step<bool>::Done done) -> std::any {
            stop_all(flow, placer, p, victims, std::move(done));
            return {};
          }};
}

Step<bool> Placer::bring_up_hive(const FlowPtr& flow, PlacementPtr p) {
  return {flow, [this, flow, p = std::move(p)](Step<bool>::Done done) -> std::any {
            bring_up(flow, *this, report_once(p), std::move(done));
            return {};
          }};
}

}  // namespace llorch::queen
