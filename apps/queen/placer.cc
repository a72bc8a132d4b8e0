#include "queen/placer.h"

#include <algorithm>
#include <cctype>

#include "service/log.h"

namespace llorch::queen {

using service::FlowPtr;
using service::Procedure;
using service::Step;

namespace {

/// A hive's "no" that another hive need not share.
bool about_this_hive(ErrorCode code) {
  return code != ErrorCode::kModelNotFound && code != ErrorCode::kDownloadFailed && code != ErrorCode::kCancelled &&
         code != ErrorCode::kShuttingDown && code != ErrorCode::kInvalidRequest && code != ErrorCode::kModelLoadFailed;
}

bool about_memory(ErrorCode code) {
  return code == ErrorCode::kInsufficientMemory || code == ErrorCode::kInsufficientVram;
}

constexpr int kOvertakenMax = 100;
constexpr int kCutOffMax = 3;

Error displaced() { return {ErrorCode::kQueueFull, "the queue is full, and a later request came before this one"}; }

/// What a request has learnt and holds while it is being placed.
struct Search {
  Search(Placer& placer, PlacementPtr placement) : q(placer), p(std::move(placement)) {}
  Placer& q;
  PlacementPtr p;
  Reasons refusals;
  std::map<std::string, ShortOfRoom> crowded;  // devices that only lack memory, by place_key()
  std::optional<LinePlace> room;               // in the line for the memory of one of them
  std::optional<ProvisioningMark> mark;        // the worker that was made is kept until there is a seat
  int overtaken = 0;                           // how often others took memory that a hive had said was free
  int cut_off = 0;                             // how often a call to this machine's own hive broke
  bool fresh = false;                          // what `crowded` says is of this request's turn
  bool own_tried = false;                      // this machine's hive was started, for nothing else suited

  void wait_in_room_line(const std::string& place) {
    if (!room || room->key() != place)
      room.emplace(q.room_line(), q.changed(), WaitingLine::Entry{place, p->batch, {}, {}});
  }
  /// Others wait for this device's memory, and were there before.
  [[nodiscard]] bool must_queue_for(const std::string& place) const {
    if (room && room->key() == place) return !room->first();
    return q.room_line().has(place);
  }
  [[nodiscard]] Decision decide_now() {
    const auto before = net::Clock::now();
    const HiveTable::Restrictions restrictions{&refusals, !p->access.allows(p->ref, false)};
    Decision d = decide(q.hives().view(p->wanted, restrictions), p->wanted, q.options().worker_kind);
    q.uses().metrics.scheduling_ms.Observe(
        std::chrono::duration<double, std::milli>(net::Clock::now() - before).count());
    return d;
  }
  /// Errors: kInternal.
  [[nodiscard]] Result<Placed> take_seat(const Decision& d) {
    const HiveEntry* h = q.hives().find(d.hive);
    if (!h) return std::unexpected(removed(d.hive));
    for (const auto& w : h->workers)
      if (w.worker_id == d.worker_id) {
        LLORCH_TRY(service::Peer peer, service::make_peer(w.uri, h->peer.token, h->peer.tls_name));
        p->report("schedule", d.why);
        return Placed{d.hive, d.worker_id, w.model_ref, std::move(peer),
                      q.hives().take_seat(d.hive, d.worker_id, [&signal = q.changed()] { signal.notify(); })};
      }
    return fail(ErrorCode::kInternal, "the chosen worker is gone");
  }
  /// A call to this machine's own hive broke: its process ends or has ended, and the queen starts another. One that
  /// she did not start stays in the table.
  [[nodiscard]] bool own_hive_has_gone(const std::string& hive, const Error& error) {
    const LocalHive& local = q.uses().local;
    const bool ours = hive == local.id() && (local.running() || !q.hives().find(hive));
    return ours && error.code == ErrorCode::kIo && ++cut_off <= kCutOffMax;
  }
  /// A GPU lacks nothing but memory that idle workers have: they go before the CPU is taken, which `d` says.
  [[nodiscard]] bool idle_gpu_can_be_freed(const Decision& d) {
    if (d.kind != Decision::Kind::kProvision || colony::is_gpu(d.device)) return false;
    const RoomPlan p = plan();
    return p.kind == RoomPlan::Kind::kEvict && colony::is_gpu(p.device) &&
           std::ranges::all_of(p.victims, [](const Evictable& w) { return w.inflight == 0; });
  }
  /// No hive that is online can run it, also when others make room.
  [[nodiscard]] bool nothing_suits(const Decision& d) {
    return d.kind == Decision::Kind::kNone && (crowded.empty() || plan().kind == RoomPlan::Kind::kNever);
  }
  /// This machine's hive is to be started: it is meant by name, or nothing else suits.
  [[nodiscard]] bool needs_own_hive(const Decision& d) {
    const std::string& own = q.uses().local.id();
    if (!q.uses().local_wanted() || q.hives().online(own)) return false;
    if (p->wanted.hive == own) return true;
    const bool may_help = p->wanted.hive.empty() && p->wanted.worker_id.empty();
    return may_help && nothing_suits(d) && !std::exchange(own_tried, true);
  }
  /// The same placement, on this machine's hive.
  [[nodiscard]] PlacementPtr on_own_hive() const {
    const auto own = std::make_shared<Placement>(*p);
    own->wanted.hive = q.uses().local.id();
    return own;
  }
  /// The hive that the request names, and that is not this machine's, is offline.
  [[nodiscard]] bool named_is_offline() const {
    const std::string& named = p->wanted.hive;
    return !named.empty() && named != q.uses().local.id() && !q.hives().online(named);
  }
  /// Nothing suits: what the caller is told.
  [[nodiscard]] Error refusal(const Decision& d) const {
    const bool present = q.hives().presence(p->ref.text()) != ModelResolver::Presence::kAbsent;
    if (!p->access.allows(p->ref, present)) return colony::no_such_model();
    return {ErrorCode::kNoWorkersAvailable, "nothing can run the model: " + d.why};
  }
  /// What is known of devices without room, with their workers of now.
  [[nodiscard]] RoomPlan plan() {
    std::vector<ShortOfRoom> hives;
    for (auto& [place, h] : crowded) {
      h.workers = q.hives().workers_of(h.hive, q.pinned());
      std::erase_if(h.workers, [&h](const Evictable& w) { return w.device != h.device; });
      // Of the same model there can be one that loads or stops: it is no victim, but it is waited for.
      for (Evictable& w : h.workers)
        if (w.model == p->wanted.model) w.settled = false;
      hives.push_back(h);
    }
    return plan_room(hives);
  }
};

using SearchPtr = std::shared_ptr<Search>;

/// One worker is tried to be made. False: the request waits for its turn.
Procedure make_worker(FlowPtr flow, SearchPtr s, Decision d, Step<bool>::Done done) {
  Search& search = *s;
  Placer& q = search.q;
  const PlacementPtr p = search.p;
  const std::string place = place_key(d.hive, d.device);
  if (search.must_queue_for(place)) {
    search.wait_in_room_line(place);
    co_return done(false);
  }
  p->report("schedule", d.why);
  search.mark.emplace(q.hives(), d.hive, p->wanted.model, [&signal = q.changed()] { signal.notify(); });
  const std::function<void()> on_promised = [weak = std::weak_ptr(s)] {
    if (const auto alive = weak.lock()) alive->room.reset();
  };
  const auto made = co_await provision(flow, q, p, d, on_promised);
  if (made && !made->error) co_return done(true);
  search.mark.reset();
  const Error error = made ? *made->error : made.error();
  if (flow->cancelled() || !about_this_hive(error.code)) co_return done(std::unexpected(error));
  const bool gone = search.own_hive_has_gone(d.hive, error);
  if (gone) (void)q.hives().mark_silent(d.hive);
  const HiveEntry* h = q.hives().find(d.hive);
  if (gone || (h && h->silent)) {
    p->report("hive_unknown", fmt::format("{} does not answer: its state is unknown, and it gets nothing new", d.hive));
    search.room.reset();
    co_return done(true);
  }
  // Where another was faster, the hive is asked anew for its figures.
  if (made && made->had_room && about_memory(error.code) && ++search.overtaken < kOvertakenMax) co_return done(false);
  p->report("provision_failed", fmt::format("{} cannot: {}", place_name(d.hive, d.device), error.message));
  search.refusals[place] = error.message;
  if (about_memory(error.code) && q.options().evict) {
    const auto before = search.crowded.find(place);
    if (made && made->short_of)
      search.crowded[place] = *made->short_of;
    else if (before == search.crowded.end())
      search.crowded[place] = {d.hive, d.device, 1, 0, std::nullopt, {}};  // it gives no figures
    search.fresh = !search.must_queue_for(place);
  }
  done(true);
}

/// Every hive that suits lacks memory. True: look again at once; false: wait for a change.
Procedure make_room(FlowPtr flow, SearchPtr s, Decision d, Step<bool>::Done done) {
  Search& search = *s;
  const RoomPlan plan = search.plan();
  if (plan.kind == RoomPlan::Kind::kNever) co_return done(std::unexpected(search.refusal(d)));
  const std::string place = place_key(plan.hive, plan.device);
  search.wait_in_room_line(place);
  if (!search.room->first()) {
    search.fresh = false;
    co_return done(false);
  }
  const auto ask_again = [&search, &place] {  // its answer is of before, or something has ended since
    search.refusals.erase(place);
    search.crowded.erase(place);
  };
  if (!search.fresh) {  // others had their turn since
    ask_again();
    co_return done(true);
  }
  if (plan.kind == RoomPlan::Kind::kEvict) {
    const auto gone = co_await evict(flow, search.q, search.p, plan.victims);
    if (!gone && flow->cancelled()) co_return done(std::unexpected(gone.error()));
    if (!gone) search.p->report("evict_failed", fmt::format("it does not: {}", gone.error().message));
    ask_again();
    co_return done(gone.has_value());
  }
  ask_again();
  done(plan.kind == RoomPlan::Kind::kFits);
}

/// The making of a worker for a request, which takes a seat elsewhere as soon as one becomes free: then the worker is
/// for those who come next.
struct Making {
  FlowPtr flow;
  std::string hive;
  std::optional<Result<bool>> outcome;
};
using MakingPtr = std::shared_ptr<Making>;

Procedure make_beside(MakingPtr m, SearchPtr s, Decision d) {
  Step<bool> making{m->flow, [&](Step<bool>::Done then) -> std::any {
                      make_worker(m->flow, s, d, std::move(then));
                      return {};
                    }};
  m->outcome.emplace(co_await making);
  s->q.changed().notify();
}

/// What is reported and relayed of a placement while `placing` lives.
PlacementPtr report_while(const std::shared_ptr<void>& placing, const PlacementPtr& p) {
  const auto out = report_once(p);
  const auto whoever = [weak = std::weak_ptr(placing)](auto then) {
    return [weak, then = std::move(then)](std::string_view what, const auto& more) {
      if (weak.lock() && then) then(what, more);
    };
  };
  out->report = whoever(std::move(out->report)), out->relay = whoever(std::move(out->relay));
  return out;
}

template<class Start>
Step<bool> sub_procedure(const FlowPtr& flow, Start& start) {
  return {flow, [&start](Step<bool>::Done then) -> std::any {
            start(std::move(then));
            return {};
          }};
}

Procedure place_request(FlowPtr flow, Placer& q, PlacementPtr p, Step<Placed>::Done done) {
  const auto placing = std::make_shared<int>();
  p = report_while(placing, p);
  const auto s = std::make_shared<Search>(q, p);
  // Who is not the first can do nothing before it is: among a thousand that wait, a change concerns one.
  service::Signal turn;
  const auto drop = [weak = std::weak_ptr(flow)] {
    if (const auto alive = weak.lock()) alive->cancel(displaced());
  };
  const LinePlace line(q.line(), q.changed(), {p->wanted.model, p->batch, drop, [&turn] { turn.notify(); }});
  MakingPtr making;  // of the worker for this request, where one is being made
  const auto give_up = [&](const Error& why) {
    if (making) making->flow->cancel(why);
    done(std::unexpected(why));
  };
  while (true) {
    if (flow->cancelled()) co_return give_up(*flow->cancelled());
    Decision d{Decision::Kind::kWait, "", "", "", "", "others are before it in the line"};
    std::optional<Result<bool>> outcome;
    if (making && making->outcome) {
      outcome = std::exchange(making, nullptr)->outcome;
    } else if (!line.first()) {
      if (!making) s->room.reset();
    } else {
      const bool free_to_act = !making;
      if (!q.hives().online().empty()) d = s->decide_now();
      if (d.kind != Decision::Kind::kUse && s->mark && free_to_act) {  // the worker that was made has gone again
        s->mark.reset();
        d = s->decide_now();
      }
      // The worker that is being made is used when that has ended: it tells of it.
      const bool its_own = making && d.hive == making->hive;
      if (d.kind == Decision::Kind::kUse && !its_own) co_return done(s->take_seat(d));
      if (free_to_act && s->named_is_offline())
        co_return done(fail(ErrorCode::kNoWorkersAvailable, "{}", q.uses().why_offline(p->wanted.hive)));
      if (free_to_act && s->needs_own_hive(d)) {
        outcome = co_await q.bring_up_hive(flow, s->on_own_hive());
        if (s->own_tried && !flow->cancelled()) outcome = true;  // what was refused before is refused with that reason
      } else if (free_to_act && q.hives().responsive().empty()) {
        outcome = co_await q.bring_up_hive(flow, p);
      } else if (free_to_act && !s->idle_gpu_can_be_freed(d) && d.kind == Decision::Kind::kProvision) {
        making = std::make_shared<Making>(Making{q.uses().calls.gate().flow(), d.hive, {}});
        make_beside(making, s, d);
      } else if (free_to_act && d.kind != Decision::Kind::kWait && !s->crowded.empty()) {
        auto start = [&](Step<bool>::Done then) { make_room(flow, s, d, std::move(then)); };
        outcome = co_await sub_procedure(flow, start);
      } else if (free_to_act && d.kind == Decision::Kind::kNone) {
        co_return done(std::unexpected(s->refusal(d)));
      }
    }
    if (outcome && !*outcome) co_return done(std::unexpected(outcome->error()));
    if (outcome && **outcome) continue;
    if (outcome) d.why = "memory for it is being made free, in turn";
    if (!making) p->report("queue", "waiting: " + d.why);
    service::Signal& awaited = making || line.first() ? q.changed() : turn;
    const auto changed = co_await awaited.wait(flow, std::chrono::seconds(1));
    if (!changed) co_return give_up(changed.error());
  }
}

Procedure stop_quietly(FlowPtr flow, Placer& q, Evictable worker, std::function<void()> done) {
  const auto silent = std::make_shared<Relay>();
  const auto gone = co_await q.uses().calls.stop_worker(flow, worker, silent, "");
  if (!gone) service::log(service::Level::kWarn, "evict_failed", gone.error().message);
  done();
}

}  // namespace

PlacementPtr report_once(const PlacementPtr& p) {
  const auto quiet = std::make_shared<Placement>(*p);
  quiet->report = [report = p->report, told = std::make_shared<std::set<std::string>>()](std::string_view action,
                                                                                         const std::string& human) {
    std::string text = std::string(action) + human;
    std::erase_if(text, [](unsigned char c) { return std::isdigit(c); });
    if (action == "evict" || told->insert(std::move(text)).second) report(action, human);
  };
  return quiet;
}

Step<Placed> Placer::place(const FlowPtr& flow, PlacementPtr p) {
  if (const std::string device = settings_.of(p->ref).device(); p->wanted.worker_id.empty() && !device.empty()) {
    p = std::make_shared<Placement>(*p);
    p->wanted.made_on = device;
  }
  return {flow, [this, flow, p = std::move(p)](Step<Placed>::Done done) -> std::any {
            place_request(flow, *this, p, std::move(done));
            return {};
          }};
}

void Placer::stop_idle(const Evictable& worker, std::function<void()> done) {
  uses_.metrics.evictions.Increment();
  stop(worker, std::move(done));
}

void Placer::stop_silent(const std::string& hive, const std::string& worker) {
  for (const Evictable& w : hives().workers_of(hive, {})) {
    if (w.worker_id != worker || hives().is_leaving(hive, worker)) continue;
    service::log(service::Level::kWarn, "worker_silent",
                 fmt::format("{} on {} does not answer: it is ended", worker, hive),
                 {{"worker_id", worker}, {"hive_id", hive}});
    stop(w, {});
  }
}

void Placer::stop(const Evictable& worker, std::function<void()> done) {
  hives().set_leaving(worker.hive, worker.worker_id, true);
  stop_quietly(uses_.calls.gate().flow(), *this, worker, [this, worker, done = std::move(done)] {
    hives().set_leaving(worker.hive, worker.worker_id, false);
    changed().notify();
    if (done) done();
  });
}

}  // namespace llorch::queen
