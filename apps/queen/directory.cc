#include "queen/directory.h"

#include <algorithm>

#include "colony/facts.h"

namespace llorch::queen {

void Directory::note_strength(const HiveView& h, bool there) {
  for (const DeviceView& d : h.devices) {
    if (!d.problem.empty()) continue;
    if (there)
      strongest_.insert(strength(h, d));
    else
      strongest_.erase(strength(h, d));
  }
}

void Directory::erase(const std::string& id) {
  const auto it = hives_.find(id);
  if (it == hives_.end()) return;
  note_strength(it->second, false);
  unknown_.erase(id);
  for (const WorkerView& w : it->second.workers)
    if (const auto held = by_model_.find(w.model); held != by_model_.end()) {
      held->second.erase(id);
      if (held->second.empty()) by_model_.erase(held);
    }
  hives_.erase(it);
}

void Directory::put(HiveView hive) {
  const auto same = [](const WorkerView& a, const WorkerView& b) { return a.model == b.model; };
  const auto it = hives_.find(hive.id);
  if (it != hives_.end() && std::ranges::equal(it->second.workers, hive.workers, same)) {  // the models stay
    note_strength(it->second, false);
    if (it->second.known && !hive.known) unknown_.insert(hive.id);
    if (hive.known) unknown_.erase(hive.id);
    note_strength(hive, true);
    it->second = std::move(hive);
    return;
  }
  erase(hive.id);
  for (const WorkerView& w : hive.workers) by_model_[w.model].insert(hive.id);
  if (!hive.known) unknown_.insert(hive.id);
  note_strength(hive, true);
  const std::string id = hive.id;
  hives_[id] = std::move(hive);
}

std::vector<HiveView> Directory::all() const {
  std::vector<HiveView> out;
  for (const auto& [id, h] : hives_) out.push_back(h);
  return out;
}

bool Directory::can_be_made(const Requirements& wanted, const Moment& now, const Strength& at) const {
  const auto& [cpu, memory, id, device] = at;
  const auto holders = by_model_.find(wanted.model);
  const bool holds = holders != by_model_.end() && holders->second.contains(id);
  return !holds && memory <= 0 && (wanted.kind.empty() || colony::runs_on(wanted.kind, device)) &&
         !now.refusals->contains(place_key(id, device)) && now.online(id) && !hives_.at(id).silent &&
         (!now.suits || now.suits(id));
}

std::vector<HiveView> Directory::relevant(const Requirements& wanted, const Moment& now) const {
  std::set<std::string> ids;
  const auto holders = by_model_.find(wanted.model);
  if (!wanted.hive.empty()) {
    ids.insert(wanted.hive);
  } else if (!wanted.device.empty() || !wanted.made_on.empty()) {
    for (const auto& [id, h] : hives_) ids.insert(id);
  } else {
    if (holders != by_model_.end()) ids = holders->second;
    ids.insert(unknown_.begin(), unknown_.end());
    for (const std::string& entry : *now.provisioning)
      if (entry.ends_with("|" + wanted.model)) ids.insert(entry.substr(0, entry.size() - wanted.model.size() - 1));
    for (const auto& [place, why] : *now.refusals) ids.insert(place.substr(0, place.find('/')));
    // Where a worker would be made: the strongest that neither holds one nor has refused.
    const auto found =
        std::ranges::find_if(strongest_, [&](const Strength& at) { return can_be_made(wanted, now, at); });
    if (found != strongest_.end()) ids.insert(std::get<2>(*found));
    if (found == strongest_.end())  // each says why not
      for (const auto& [id, h] : hives_) ids.insert(id);
  }
  std::vector<HiveView> out;
  for (const std::string& id : ids) {
    const auto it = hives_.find(id);
    if (it == hives_.end() || !now.online(id)) continue;
    const HiveView& h = it->second;
    HiveView v;
    v.id = id, v.known = h.known, v.silent = h.silent, v.devices = h.devices;
    v.provisioning = now.provisioning->contains(id + "|" + wanted.model);
    for (DeviceView& d : v.devices)
      if (const auto no = now.refusals->find(place_key(id, d.id)); no != now.refusals->end()) d.refusal = no->second;
    if (now.suits && h.known && !now.suits(id))
      v.refused = true, v.refusal = "it does not have the model, and this API key may not have it fetched";
    for (const WorkerView& w : h.workers)
      if (w.model == wanted.model) {
        v.workers.push_back(w);
        v.workers.back().inflight = now.inflight(id, w.id);
      }
    out.push_back(std::move(v));
  }
  return out;
}

}  // namespace llorch::queen
