#include "queen/directory.h"

#include <algorithm>

namespace llorch::queen {

Directory::Strength Directory::strength(const HiveView& h) {
  std::int64_t free = -1;
  for (const DeviceView& d : h.devices)
    if (usable(d)) free = std::max(free, d.memory_free);
  return {-free, h.id};
}

void Directory::erase(const std::string& id) {
  const auto it = hives_.find(id);
  if (it == hives_.end()) return;
  strongest_.erase(strength(it->second));
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
    strongest_.erase(strength(it->second));
    if (it->second.known && !hive.known) unknown_.insert(hive.id);
    if (hive.known) unknown_.erase(hive.id);
    strongest_.insert(strength(hive));
    it->second = std::move(hive);
    return;
  }
  erase(hive.id);
  for (const WorkerView& w : hive.workers) by_model_[w.model].insert(hive.id);
  if (!hive.known) unknown_.insert(hive.id);
  strongest_.insert(strength(hive));
  const std::string id = hive.id;
  hives_[id] = std::move(hive);
}

std::vector<HiveView> Directory::all() const {
  std::vector<HiveView> out;
  for (const auto& [id, h] : hives_) out.push_back(h);
  return out;
}

std::vector<HiveView> Directory::relevant(const Requirements& wanted, const Moment& now) const {
  std::set<std::string> ids;
  const auto holders = by_model_.find(wanted.model);
  if (!wanted.hive.empty()) {
    ids.insert(wanted.hive);
  } else if (!wanted.device.empty()) {
    for (const auto& [id, h] : hives_) ids.insert(id);
  } else {
    if (holders != by_model_.end()) ids = holders->second;
    ids.insert(unknown_.begin(), unknown_.end());
    for (const std::string& entry : *now.provisioning)
      if (entry.ends_with("|" + wanted.model)) ids.insert(entry.substr(0, entry.size() - wanted.model.size() - 1));
    for (const auto& [id, why] : *now.refusals) ids.insert(id);
    // Where a worker would be made: the strongest that neither holds one nor has refused.
    bool found = false;
    for (auto it = strongest_.begin(); it != strongest_.end() && !found; ++it) {
      const std::string& id = std::get<std::string>(*it);
      const bool holds = holders != by_model_.end() && holders->second.contains(id);
      found = !holds && std::get<std::int64_t>(*it) <= 0 && !now.refusals->contains(id) && now.online(id) &&
              !hives_.at(id).silent && (!now.suits || now.suits(id));
      if (found) ids.insert(id);
    }
    if (!found)  // each says why not
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
    if (const auto refusal = now.refusals->find(id); refusal != now.refusals->end())
      v.refused = true, v.refusal = refusal->second;
    else if (now.suits && h.known && !now.suits(id))
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
