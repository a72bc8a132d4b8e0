#include "queen/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/human.h"
#include "colony/facts.h"

namespace llorch::queen {
namespace {

bool matches(const HiveView& h, const Requirements& r) { return r.hive.empty() || r.hive == h.id; }
bool matches(const WorkerView& w, const Requirements& r) {
  return (r.worker_id.empty() || r.worker_id == w.id) && colony::suits_device(r.device, w.device) &&
         (r.kind.empty() || r.kind == w.kind);
}
/// The device that a worker for it is made on, as far as one is named.
const std::string& device_to_make_on(const Requirements& r) { return r.device.empty() ? r.made_on : r.device; }
bool matches(const DeviceView& d, const Requirements& r) {
  return colony::suits_device(device_to_make_on(r), d.id) && (r.kind.empty() || colony::runs_on(r.kind, d.id));
}

struct Place {
  const HiveView* hive = nullptr;
  const DeviceView* device = nullptr;
};

/// A GPU before a CPU, then more free memory, then the order of names.
bool stronger(const Place& a, const Place& b) {
  if (!b.device) return true;
  const auto key = [](const Place& p) { return std::tuple(p.device->type == "gpu", p.device->memory_free); };
  return std::tuple(key(a)) != std::tuple(key(b))
             ? key(a) > key(b)
             : std::tie(a.hive->id, a.device->id) < std::tie(b.hive->id, b.device->id);
}

/// Workers that hold the model: the best with a free seat, and why there is none.
struct Holders {
  const WorkerView* best = nullptr;
  const HiveView* best_hive = nullptr;
  bool coming = false, full = false, leaving = false;
};

Holders find_holders(const std::vector<HiveView>& hives, const Requirements& wanted, std::string_view preferred) {
  Holders out;
  const auto rank = [&](const HiveView& h, const WorkerView& w) {
    const int kind = colony::is_gpu(w.device) ? 0 : w.kind == preferred ? 1 : 2;
    return std::tuple(h.silent, kind, w.inflight, std::string_view(h.id), std::string_view(w.id));
  };
  for (const HiveView& h : hives) {
    if (!matches(h, wanted)) continue;
    out.coming |= h.provisioning || (!h.known && !h.silent);
    for (const WorkerView& w : h.workers) {
      if (w.model != wanted.model || !matches(w, wanted)) continue;
      out.coming |= w.state == "starting" && !h.silent, out.leaving |= w.state == "stopping" && !h.silent;
      if (w.state != "ready" && w.state != "busy") continue;
      if (w.inflight >= w.slots)
        out.full = true;
      else if (!out.best || rank(h, w) < rank(*out.best_hive, *out.best))
        out.best = &w, out.best_hive = &h;
    }
  }
  return out;
}

/// Where a worker could be made, and why not elsewhere.
struct Candidates {
  Place best;
  std::string refusals, silent;  // for people
};

void add_to(std::string& list, std::string_view separator, const std::string& more) {
  list += (list.empty() ? "" : std::string(separator)) + more;
}

/// Why not there; empty: it can.
std::string flaw_of(const HiveView& h, const DeviceView& d) {
  const std::string& why = d.problem.empty() ? d.refusal : d.problem;
  return why.empty() ? "" : place_name(h.id, d.id) + ": " + why;
}

Candidates find_candidates(const std::vector<HiveView>& hives, const Requirements& wanted) {
  Candidates out;
  for (const HiveView& h : hives) {
    if (!matches(h, wanted) || !wanted.worker_id.empty()) continue;
    if (h.refused) {
      add_to(out.refusals, "; ", h.id + ": " + h.refusal);
      continue;
    }
    const auto suits = [&](const DeviceView& d) { return matches(d, wanted); };
    const auto open = [&](const DeviceView& d) { return suits(d) && flaw_of(h, d).empty(); };
    if (h.silent && (std::ranges::none_of(h.devices, suits) || std::ranges::any_of(h.devices, open))) {
      add_to(out.silent, ", ", h.id);
      continue;
    }
    if (std::ranges::any_of(h.workers,
                            [&](const WorkerView& w) { return w.model == wanted.model && matches(w, wanted); }))
      continue;
    for (const DeviceView& d : h.devices) {
      if (!suits(d)) continue;
      if (const std::string flaw = flaw_of(h, d); !flaw.empty())
        add_to(out.refusals, "; ", flaw);
      else if (const Place p{&h, &d}; stronger(p, out.best))
        out.best = p;
    }
  }
  return out;
}

/// A worker is made there.
Decision provision_at(const Place& place, const Requirements& wanted, std::string_view preferred) {
  const auto& [hive, device] = place;
  Decision d{Decision::Kind::kProvision,
             hive->id,
             "",
             device->id,
             "",
             fmt::format("{} of {} is the strongest device that suits, with {} free", device->id, hive->id,
                         size_text(static_cast<double>(device->memory_free)))};
  if (colony::is_gpu(device->id)) {
    d.worker_kind = colony::kGpuKind;
    return d;
  }
  d.worker_kind = wanted.kind.empty() ? preferred : wanted.kind;
  for (const DeviceView& other : hive->devices)  // why not on its GPUs
    if (matches(other, wanted) && colony::is_gpu(other.id)) add_to(d.why, "; not ", flaw_of(*hive, other));
  return d;
}

}  // namespace

WaitingLine::Place WaitingLine::join(Entry entry) {
  entry.number = joined_++;
  std::list<Entry>& mine = lanes_[entry.model].entries[entry.batch];
  ++counts_[entry.batch];
  return mine.insert(mine.end(), std::move(entry));
}

void WaitingLine::leave(Place place) {
  const bool was_first = first(place);
  const auto lane = lanes_.find(place->model);
  --counts_[place->batch];
  lane->second.entries[place->batch].erase(place);
  if (lane->second.entries[0].empty() && lane->second.entries[1].empty()) return void(lanes_.erase(lane));
  const std::function<void()> told = was_first ? lane->second.first().on_first : nullptr;  // it may leave at once
  if (told) told();
}

bool WaitingLine::first(Place place) const { return &lanes_.at(place->model).first() == &*place; }

std::map<std::string, int> WaitingLine::by_model() const {
  std::map<std::string, int> out;
  for (const auto& [model, lane] : lanes_)
    out[model] = static_cast<int>(lane.entries[0].size() + lane.entries[1].size());
  return out;
}

const WaitingLine::Entry* WaitingLine::least_wanted(bool newcomer_batch) const {
  const auto oldest = [&](bool batch) {
    const Entry* found = nullptr;
    for (const auto& [model, lane] : lanes_) {
      const auto& mine = lane.entries[batch];
      if (!mine.empty() && (!found || mine.front().number < found->number)) found = &mine.front();
    }
    return found;
  };
  const Entry* batch = oldest(true);
  return batch || newcomer_batch ? batch : oldest(false);
}

std::vector<std::string> advise(const std::map<std::string, int>& waiting, const std::vector<HiveView>& hives) {
  constexpr std::size_t kModelsMax = 16;
  std::vector<std::pair<int, std::string>> longest;
  for (const auto& [model, count] : waiting) longest.emplace_back(-count, model);
  std::ranges::sort(longest);
  if (longest.size() > kModelsMax) longest.resize(kModelsMax);
  std::vector<std::string> out;
  for (const auto& [minus, model] : longest) {
    int seats = 0;
    Place place;
    for (const HiveView& h : hives) {
      bool holds = false;
      for (const WorkerView& w : h.workers)
        if (w.model == model) holds = true, seats += w.slots;
      for (const DeviceView& d : h.devices)
        if (const Place p{&h, &d}; !holds && d.problem.empty() && stronger(p, place)) place = p;
    }
    if (-minus <= seats) continue;  // the next round takes them
    out.push_back(fmt::format("{} requests wait for {}, which has {} seats: ", -minus, model, seats) +
                  (place.device ? fmt::format("a worker on {} would take some (llorch worker spawn --hive {} --model "
                                              "{}), {} are free there",
                                              place.hive->id, place.hive->id, model,
                                              size_text(static_cast<double>(place.device->memory_free)))
                                : "every hive holds it already; another machine, or more --worker-slots, would help"));
  }
  return out;
}

namespace {

/// No hive has what a request names: says what that is, and what there is.
std::string no_device(const std::vector<HiveView>& hives, const Requirements& wanted) {
  std::string there;
  for (const HiveView& h : hives) {
    if (!wanted.hive.empty() && h.id != wanted.hive) continue;
    std::string devices;
    for (const DeviceView& d : h.devices) devices += (devices.empty() ? "" : ", ") + d.id;
    there += fmt::format("{}{} has {}", there.empty() ? "" : "; ", h.id, devices.empty() ? "none" : devices);
  }
  const std::string& device = device_to_make_on(wanted);
  const std::string named = device.empty() ? "a device" : "the device " + device,
                    kind = wanted.kind.empty() ? "" : fmt::format(" for a worker of kind {}", wanted.kind);
  return fmt::format("no hive has {}{}{}", named, kind, there.empty() ? "" : ": " + there);
}

}  // namespace

Decision decide(const std::vector<HiveView>& hives, const Requirements& wanted, std::string_view preferred) {
  const auto [best, best_hive, coming, full, leaving] = find_holders(hives, wanted, preferred);
  if (best)
    return {Decision::Kind::kUse,
            best_hive->id,
            best->id,
            best->device,
            best->kind,
            best->inflight == 0 ? fmt::format("{} on {} holds the model and is idle", best->id, best_hive->id)
                                : fmt::format("{} on {} holds the model and has room beside {} others", best->id,
                                              best_hive->id, best->inflight)};
  if (coming) return {Decision::Kind::kWait, "", "", "", "", "a worker for the model is on its way"};
  if (!wanted.worker_id.empty() && !full)
    return {Decision::Kind::kNone, "", "", "", "", "there is no such worker with this model"};
  const auto [place, refusals, silent] = find_candidates(hives, wanted);
  if (place.device) return provision_at(place, wanted, preferred);
  if (full) return {Decision::Kind::kWait, "", "", "", "", "every worker with the model is busy"};
  if (leaving)
    return {Decision::Kind::kWait, "", "", "", "", "the worker with the model is stopping: its place is next"};
  if (!silent.empty())
    return {Decision::Kind::kWait, "", "", "", "", silent + " does not answer: waiting for its next heartbeat"};
  return {Decision::Kind::kNone, "", "", "", "", refusals.empty() ? no_device(hives, wanted) : refusals};
}

}  // namespace llorch::queen
