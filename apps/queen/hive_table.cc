#include "queen/hive_table.h"

#include <algorithm>

#include "format/json.h"

namespace llorch::queen {
namespace {

std::string worker_key(const std::string& hive, const std::string& worker) { return hive + "/" + worker; }
std::string model_key(const std::string& hive, const std::string& model) { return hive + "|" + model; }

/// Bytes, where the figures can be.
colony::Bytes free_of(const boost::json::object& figures, const char* total_mb, const char* used_mb) {
  const auto figure = [&](const char* name, std::int64_t most) -> colony::Bytes {
    const auto* v = figures.if_contains(name);
    if (!v || !v->is_int64() || v->get_int64() < 0 || v->get_int64() > most) return std::nullopt;
    return v->get_int64();
  };
  const auto total = figure(total_mb, colony::kFigureMax >> 20), used = figure(used_mb, colony::kFigureMax);
  return total && used ? colony::Bytes(std::max<std::int64_t>(0, *total - *used) << 20) : std::nullopt;
}

/// Free memory changes all the time and comes with the beat.
void take_free_memory(HiveEntry& h) {
  const auto* gpus = h.node.if_contains("gpus");
  for (colony::Device& d : h.capabilities.devices) {
    colony::Bytes free;
    if (d.id == "cpu") free = free_of(h.node, "ram_total_mb", "ram_used_mb");
    if (gpus && gpus->is_array())
      for (const auto& g : gpus->get_array())
        if (const auto* o = g.if_object(); o && json::find_text(*o, "id") == d.id)
          free = free_of(*o, "vram_total_mb", "vram_used_mb");
    if (free) d.memory_free = free;
  }
}

}  // namespace

bool has_model(const HiveEntry& h, const std::string& ref) {
  return std::ranges::any_of(h.capabilities.models,
                             [&](const auto& m) { return m.ref == ref && m.status == "Available"; }) ||
         std::ranges::any_of(h.workers, [&](const auto& w) { return w.model_ref == ref; });
}

Result<HiveTable::BeatEffect> HiveTable::beat(colony::HiveBeat beat, service::Peer peer, const std::string& via) {
  if (const HiveEntry* known = find(beat.hive_id); known && !via.empty() && known->url != beat.url) erase(known->id);
  HiveEntry& h = hives_[beat.hive_id];
  const bool added = h.id.empty(), alive = !added && live(h);
  if (alive && h.url != beat.url)
    return fail(ErrorCode::kResourceInUse, "a hive of this name is alive at another address");
  h.id = beat.hive_id, h.url = beat.url, h.version = beat.version, h.via = via;
  h.peer = std::move(peer), h.workers = std::move(beat.workers), h.node = std::move(beat.node);
  // Keys are "hive/worker": a beat looks at its own hive's alone, however many workers the colony has.
  const std::string prefix = h.id + "/";
  const auto drop_gone = [&](auto& of_workers) {
    for (auto it = of_workers.lower_bound(prefix); it != of_workers.end() && it->first.starts_with(prefix);) {
      const bool stays = std::ranges::any_of(
          h.workers, [&](const auto& w) { return std::string_view(it->first).substr(prefix.size()) == w.worker_id; });
      it = stays ? std::next(it) : of_workers.erase(it);
    }
  };
  drop_gone(used_);
  drop_gone(tokens_);
  for (auto it = inflight_.lower_bound(prefix); it != inflight_.end() && it->first.starts_with(prefix);) {
    const bool unused = *it->second == 0 && it->second.use_count() == 1;
    it = unused ? inflight_.erase(it) : std::next(it);
  }
  h.seen = options_.now(), h.told_revision = beat.revision;
  const bool again = std::exchange(h.silent, false);
  take_free_memory(h);
  update(h);
  return BeatEffect{&h, added, !alive, again,
                    !alive || !h.known || beat.revision.empty() || beat.revision != h.revision};
}

void HiveTable::update(const HiveEntry& h) {
  HiveView v;
  v.id = h.id, v.known = h.known, v.silent = h.silent;
  for (const auto& d : h.capabilities.devices)
    v.devices.push_back({d.id, d.type, d.memory_free.value_or(0), d.problem, ""});
  for (const auto& w : h.workers) {
    const bool leaving = !leaving_.empty() && leaving_.contains(worker_key(h.id, w.worker_id));
    v.workers.push_back(
        {w.worker_id, w.model_ref, w.device, w.kind, leaving ? "stopping" : w.state, 0, options_.worker_slots});
  }
  directory_.put(std::move(v));
}

void HiveTable::end_via(const std::string& id) {
  HiveEntry* h = find(id);
  if (h && !std::exchange(h->via, "").empty()) h->seen = options_.now();
}

void HiveTable::erase(const std::string& id) {
  directory_.erase(id);
  hives_.erase(id);
}

bool HiveTable::mark_silent(const std::string& id) {
  HiveEntry* h = find(id);
  if (!h || std::exchange(h->silent, true)) return false;
  h->silent_since = options_.now();
  update(*h);
  return true;
}

HiveEntry* HiveTable::find(const std::string& id) {
  const auto it = hives_.find(id);
  return it == hives_.end() ? nullptr : &it->second;
}
const HiveEntry* HiveTable::find(const std::string& id) const {
  const auto it = hives_.find(id);
  return it == hives_.end() ? nullptr : &it->second;
}

std::vector<const HiveEntry*> HiveTable::online() const {
  std::vector<const HiveEntry*> out;
  for (const auto& [id, h] : hives_)
    if (live(h)) out.push_back(&h);
  return out;
}

bool HiveTable::online(const std::string& id) const {
  const HiveEntry* h = find(id);
  return h && live(*h);
}

std::vector<const HiveEntry*> HiveTable::responsive() const {
  auto out = online();
  std::erase_if(out, [](const HiveEntry* h) { return h->silent; });
  return out;
}

ModelResolver::Presence HiveTable::presence(const std::string& ref) const {
  using Presence = ModelResolver::Presence;
  const auto alive = online();
  if (std::ranges::any_of(alive, [&](const HiveEntry* h) { return has_model(*h, ref); })) return Presence::kHere;
  const bool all_known = std::ranges::all_of(alive, [](const HiveEntry* h) { return h->known; });
  return alive.empty() || !all_known ? Presence::kUnknown : Presence::kAbsent;
}

void HiveTable::forget_worker(const std::string& hive_id, const std::string& worker_id) {
  for (auto& [id, h] : hives_)
    if (hive_id.empty() || id == hive_id) {
      std::erase_if(h.workers, [&](const colony::WorkerFacts& w) { return w.worker_id == worker_id; });
      update(h);
    }
}

std::shared_ptr<int> HiveTable::inflight(const std::string& hive, const std::string& worker) const {
  auto& count = inflight_[worker_key(hive, worker)];
  if (!count) count = std::make_shared<int>(0);
  return count;
}

std::int64_t HiveTable::tokens(const std::string& hive, const std::string& worker) const {
  const auto it = tokens_.find(worker_key(hive, worker));
  return it == tokens_.end() ? 0 : *it->second;
}

int HiveTable::inflight_of(const std::string& hive) const {
  int sum = 0;
  const std::string prefix = hive + "/";
  for (auto it = inflight_.lower_bound(prefix); it != inflight_.end() && it->first.starts_with(prefix); ++it)
    sum += *it->second;
  return sum;
}

std::shared_ptr<Seat> HiveTable::take_seat(const std::string& hive, const std::string& worker,
                                           std::function<void()> on_free) {
  auto& tokens = tokens_[worker_key(hive, worker)];
  if (!tokens) tokens = std::make_shared<std::int64_t>(0);
  return std::make_shared<Seat>(inflight(hive, worker), tokens, [this, key = worker_key(hive, worker), on_free] {
    used_[key] = std::chrono::duration_cast<std::chrono::milliseconds>(options_.now().time_since_epoch()).count();
    on_free();
  });
}

void HiveTable::set_leaving(const std::string& hive, const std::string& worker, bool leaving) {
  if (leaving)
    leaving_.insert(worker_key(hive, worker));
  else
    leaving_.erase(worker_key(hive, worker));
  if (const HiveEntry* h = find(hive)) update(*h);
}

bool HiveTable::is_leaving(const std::string& hive, const std::string& worker) const {
  return leaving_.contains(worker_key(hive, worker));
}

bool HiveTable::any_leaving(const std::string& hive) const {
  const auto it = leaving_.lower_bound(hive + "/");
  return it != leaving_.end() && it->starts_with(hive + "/");
}

void HiveTable::set_provisioning(const std::string& hive, const std::string& model, bool provisioning) {
  const std::string key = model_key(hive, model);
  int& count = provisioning_[key];
  count += provisioning ? 1 : -1;
  if (count > 0) {
    provisioning_keys_.insert(key);
  } else {
    provisioning_.erase(key);
    provisioning_keys_.erase(key);
  }
}

std::vector<Evictable> HiveTable::workers_of(const std::string& hive, const std::set<std::string>& pinned) const {
  std::vector<Evictable> out;
  const HiveEntry* h = find(hive);
  if (!h || !live(*h)) return out;
  for (const auto& w : h->workers) {
    const std::string key = worker_key(hive, w.worker_id);
    const auto used = used_.find(key);
    Evictable e;
    e.hive = hive, e.device = w.device, e.worker_id = w.worker_id, e.model = w.model_ref, e.pid = w.pid;
    e.used = used == used_.end() ? 0 : used->second, e.inflight = *inflight(hive, w.worker_id);
    e.pinned = pinned.contains(w.model_ref), e.memory = w.memory_bytes;
    e.settled = (w.state == "ready" || w.state == "busy") && !leaving_.contains(key) &&
                !provisioning_keys_.contains(model_key(hive, w.model_ref));
    out.push_back(std::move(e));
  }
  return out;
}

std::vector<HiveView> HiveTable::view(const Requirements& wanted, const Restrictions& r) const {
  static const std::map<std::string, std::string> kNone;
  Directory::Moment now;
  now.provisioning = &provisioning_keys_, now.refusals = r.refusals ? r.refusals : &kNone;
  now.online = [this](const std::string& id) { return online(id); };
  now.inflight = [this](const std::string& hive, const std::string& worker) { return *inflight(hive, worker); };
  if (r.only_where_present)
    now.suits = [this, &wanted](const std::string& id) {
      const HiveEntry* h = find(id);
      return h && has_model(*h, wanted.model);
    };
  return directory_.relevant(wanted, now);
}

}  // namespace llorch::queen
