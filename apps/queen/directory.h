// What the queen knows of all hives, in the orders in which decisions ask for it: a decision among thousands of workers
// looks at a few. Gives decide() the same answer as looking at all of them would.
//
// Threads: one.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "queen/policy.h"

namespace llorch::queen {

class Directory {
 public:
  /// A hive's facts, new or instead of those before; `provisioning` and `refused` are of requests, not of hives.
  void put(HiveView hive);
  void erase(const std::string& id);
  [[nodiscard]] std::size_t size() const { return hives_.size(); }
  [[nodiscard]] std::vector<HiveView> all() const;

  /// What changes from one request to the next.
  struct Moment {
    std::function<bool(const std::string& hive)> online;
    std::function<int(const std::string& hive, const std::string& worker)> inflight;
    const std::set<std::string>* provisioning = nullptr;           // "hive|model"
    const std::map<std::string, std::string>* refusals = nullptr;  // by place_key()
    std::function<bool(const std::string& hive)> suits;            // may a worker be made there? Empty: anywhere
  };
  /// The hives that a decision about `wanted` can depend on, with their workers of its model, in the order of names.
  [[nodiscard]] std::vector<HiveView> relevant(const Requirements& wanted, const Moment& now) const;

 private:
  /// GPUs first, then more free memory, then the names of hive and device.
  using Strength = std::tuple<bool, std::int64_t, std::string, std::string>;
  [[nodiscard]] static Strength strength(const HiveView& h, const DeviceView& d) {
    return {d.type != "gpu", -d.memory_free, h.id, d.id};
  }
  void note_strength(const HiveView& h, bool there);
  [[nodiscard]] bool can_be_made(const Requirements& wanted, const Moment& now, const Strength& at) const;
  std::map<std::string, HiveView> hives_;
  std::map<std::string, std::set<std::string>, std::less<>> by_model_;  // hives
  std::set<std::string> unknown_;                                       // hives that were not asked yet
  std::set<Strength> strongest_;                                        // devices that can be used
};

}  // namespace llorch::queen
