// The queen's line and decision in colonies of up to hundreds that join, fail, lie and lag, under a seed: no request
// is lost, none gets a seat that is taken, interactive goes before batch, nobody starves, equal state gives equal
// choices. LLORCH_SEED=n replays one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <random>

#include "queen/directory.h"

namespace llorch::queen {
namespace {

constexpr int kSteps = 120, kLargeEvery = 2000;
#ifdef LLORCH_SANITIZED
constexpr std::uint64_t kSeeds = 1000;
#else
constexpr std::uint64_t kSeeds = 4000;
#endif

struct Asking {
  WaitingLine::Place place;
  Requirements wanted;
  bool batch = false;
  int arrived = 0;
  std::map<std::string, std::string> refusals;  // by place_key()
};
struct Coming {
  std::string hive, device, model;
  int left = 0;
};
struct Running {
  std::string hive, worker, model;
  int left = 0;
};

/// A colony in steps. Every step: arrivals, deaths, new workers, answers, then each who waits asks once.
class Colony {
 public:
  explicit Colony(std::uint64_t seed) : seed_(seed), random_(seed), large_(seed % kLargeEvery == 0) {
    for (int i = 0, n = large_ ? pick(200, 400) : pick(1, 6); i < n; ++i) join();
  }

  void run() {
    for (now_ = 0; now_ < kSteps && !testing::Test::HasFailure(); ++now_) {
      if (now_ < kSteps * 2 / 3) {
        for (int i = 0, n = large_ ? 20 : 1; i < n; ++i)
          if (chance(40)) ask();
        if (chance(4)) join();
        if (chance(4)) kill_hive();
        if (chance(5)) kill_worker();
      } else if (hives_.empty()) {
        join();
      }
      advance();
      place_all();
    }
    for (int i = 0; i < 400 && (!waiting_.empty() || !running_.empty()) && !testing::Test::HasFailure(); ++i, ++now_) {
      if (hives_.empty()) join();
      advance();
      place_all();
    }
    EXPECT_TRUE(waiting_.empty()) << waiting_.size() << " starve, seed " << seed_ << ": " << story();
    EXPECT_EQ(done_ + failed_, asked_) << "a request was lost, seed " << seed_;
    EXPECT_EQ(line_.count(), 0);
  }

 private:
  int pick(int low, int high) { return low + static_cast<int>(random_() % static_cast<std::uint64_t>(high - low + 1)); }
  bool chance(int percent) { return pick(1, 100) <= percent; }

  void join() {
    HiveView h;
    h.id = "hive" + std::to_string(next_++);
    h.known = chance(70);
    h.devices = {{"cpu", "cpu", std::int64_t{pick(1, 4)} << 30}};
    for (int gpu = 0, count = chance(30) ? pick(1, 2) : 0; gpu < count; ++gpu)
      h.devices.push_back({"cuda:" + std::to_string(gpu), "gpu", std::int64_t{pick(1, 3)} << 30});
    hives_[h.id] = h;
    if (chance(10)) liars_.insert(h.id);
  }
  void kill_hive() {
    if (hives_.empty()) return;
    auto it = hives_.begin();
    std::advance(it, pick(0, static_cast<int>(hives_.size()) - 1));
    const std::string id = it->first;
    for (const WorkerView& w : std::vector<WorkerView>(it->second.workers)) drop(id, w.id);
    hives_.erase(id);
    std::erase_if(coming_, [&](const Coming& c) { return c.hive == id; });
    liars_.erase(id);
  }
  void kill_worker() {
    for (auto& [id, h] : hives_)
      if (!h.workers.empty() && chance(50)) return drop(id, h.workers.front().id);
  }
  /// A worker goes; those who ran there ask again, as a request without a token does.
  void drop(const std::string& hive, const std::string worker) {  // a copy: it is about to go
    std::erase_if(hives_[hive].workers, [&](const WorkerView& w) { return w.id == worker; });
    for (auto it = running_.begin(); it != running_.end();)
      if (it->hive == hive && it->worker == worker) {
        const std::string model = it->model;
        it = running_.erase(it);
        enter(model, false);
      } else {
        ++it;
      }
  }
  void enter(const std::string& model, bool batch) {
    waiting_.push_back({line_.join(model, batch), {model, "", "", ""}, batch, now_, {}});
  }
  void ask() {
    ++asked_;
    enter("m" + std::to_string(pick(0, 2)), chance(30));
  }

  void advance() {
    for (auto& [id, h] : hives_)
      if (!h.known && chance(50)) h.known = true;
    for (auto it = coming_.begin(); it != coming_.end();) {
      if (--it->left > 0) {
        ++it;
        continue;
      }
      const std::string kind = it->device == "cpu" ? "cpu" : "cuda";
      hives_[it->hive].workers.push_back({"w" + std::to_string(next_++), it->model, it->device, kind, "ready", 0, 2});
      it = coming_.erase(it);
    }
    for (auto it = running_.begin(); it != running_.end();) {
      if (--it->left > 0) {
        ++it;
        continue;
      }
      for (WorkerView& w : hives_[it->hive].workers)
        if (w.id == it->worker) --w.inflight;
      ++done_;
      it = running_.erase(it);
    }
    // GPUs fall off the bus, and come back.
    for (auto& [id, h] : hives_)
      for (DeviceView& d : h.devices)
        if (d.type == "gpu" && chance(5)) d.problem = d.problem.empty() ? "it is lost" : "";
    // Idle workers are stopped now and then, so that other models find room.
    for (auto& [id, h] : hives_)
      std::erase_if(h.workers, [&](const WorkerView& w) { return w.inflight == 0 && chance(10); });
  }

  /// Why the first of those who wait does so.
  [[nodiscard]] std::string story() const {
    if (waiting_.empty()) return "";
    const Decision d = decide(view(waiting_[0].wanted.model), waiting_[0].wanted);
    std::string text = waiting_[0].wanted.model + " since " + std::to_string(waiting_[0].arrived) + ", first in line " +
                       std::to_string(line_.first(waiting_[0].place)) + ": " + d.why;
    for (const HiveView& h : view(waiting_[0].wanted.model)) {
      text += "\n" + h.id + " known " + std::to_string(h.known) + " provisioning " + std::to_string(h.provisioning) +
              " free " + std::to_string(h.devices[0].memory_free >> 30);
      for (const WorkerView& w : h.workers) text += " " + w.id + ":" + w.model + ":" + std::to_string(w.inflight);
    }
    return text;
  }

  [[nodiscard]] std::vector<HiveView> view(const std::string& model) const {
    std::vector<HiveView> out;
    for (const auto& [id, h] : hives_) {
      out.push_back(h);
      for (const Coming& c : coming_) out.back().provisioning |= c.hive == id && c.model == model;
      for (DeviceView& d : out.back().devices) {
        d.memory_free -= taken(h, d.id) << 30;
        if (d.memory_free < std::int64_t{1} << 30) d.refusal = "no room";
      }
    }
    return out;
  }
  /// GiB: each worker takes one, from when it is promised.
  [[nodiscard]] std::int64_t taken(const HiveView& h, const std::string& device) const {
    return std::ranges::count_if(coming_, [&](const Coming& c) { return c.hive == h.id && c.device == device; }) +
           std::ranges::count(h.workers, device, &WorkerView::device);
  }

  /// The same hives, as the directory gives them after hearing of each once more.
  std::vector<HiveView> by_directory(const std::vector<HiveView>& hives, const Requirements& wanted) {
    std::set<std::string> provisioning, here;
    std::map<std::string, std::string> refusals;
    for (HiveView h : hives) {
      here.insert(h.id);
      if (std::exchange(h.provisioning, false)) provisioning.insert(h.id + "|" + wanted.model);
      for (DeviceView& d : h.devices)
        if (!d.refusal.empty()) refusals[place_key(h.id, d.id)] = std::exchange(d.refusal, "");
      directory_.put(std::move(h));
    }
    for (const std::string& id : known_)
      if (!here.contains(id)) directory_.erase(id);
    known_ = here;
    const auto inflight = [&](const std::string& hive, const std::string& worker) {
      for (const WorkerView& w : hives_.at(hive).workers)
        if (w.id == worker) return w.inflight;
      return -1;
    };
    return directory_.relevant(wanted, {[](const std::string&) { return true; }, inflight, &provisioning, &refusals});
  }

  void place_all() {
    for (std::size_t i = 0; i < waiting_.size() && !testing::Test::HasFailure();) {
      if (!line_.first(waiting_[i].place)) {
        ++i;
        continue;
      }
      auto hives = view(waiting_[i].wanted.model);
      for (HiveView& h : hives)
        for (DeviceView& d : h.devices)
          if (const auto no = waiting_[i].refusals.find(place_key(h.id, d.id)); no != waiting_[i].refusals.end())
            d.refusal = no->second;
      const Decision d = decide(hives, waiting_[i].wanted), again = decide(hives, waiting_[i].wanted);
      ASSERT_TRUE(d.kind == again.kind && d.hive == again.hive && d.device == again.device &&
                  d.worker_id == again.worker_id)
          << "seed " << seed_;
      const Decision few = decide(by_directory(hives, waiting_[i].wanted), waiting_[i].wanted);
      ASSERT_TRUE(d.kind == few.kind && d.hive == few.hive && d.device == few.device && d.worker_id == few.worker_id &&
                  d.why == few.why)
          << "looking at a few hives decides otherwise: " << d.why << " / " << few.why << ", seed " << seed_;
      if (d.kind == Decision::Kind::kUse)
        seat(i, d);
      else if (d.kind == Decision::Kind::kProvision && liars_.contains(d.hive))
        refuse(waiting_[i], d);  // it asks again at once, knowing more
      else if (d.kind == Decision::Kind::kProvision)
        provision(waiting_[i++], d);
      else if (d.kind == Decision::Kind::kNone && !hives_.empty() && refused_everywhere(waiting_[i]))
        give_up(i, d);
      else
        ++i;
    }
  }
  void seat(std::size_t i, const Decision& d) {
    for (const Asking& other : waiting_) {
      if (&other == &waiting_[i] || other.wanted.model != waiting_[i].wanted.model) continue;
      ASSERT_FALSE(waiting_[i].batch && !other.batch) << "batch went before interactive, seed " << seed_;
    }
    WorkerView* worker = nullptr;
    for (WorkerView& w : hives_.at(d.hive).workers)
      if (w.id == d.worker_id) worker = &w;
    ASSERT_NE(worker, nullptr) << "seed " << seed_;
    ASSERT_EQ(worker->model, waiting_[i].wanted.model) << "seed " << seed_;
    ASSERT_LT(worker->inflight, worker->slots) << "a seat was given twice, seed " << seed_;
    ++worker->inflight;
    running_.push_back({d.hive, d.worker_id, waiting_[i].wanted.model, pick(1, 6)});
    line_.leave(waiting_[i].place);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  [[nodiscard]] bool refused_everywhere(const Asking& a) const {
    return std::ranges::all_of(hives_, [&](const auto& entry) {
      return std::ranges::all_of(entry.second.devices, [&](const DeviceView& d) {
        return !d.problem.empty() || a.refusals.contains(place_key(entry.first, d.id));
      });
    });
  }
  /// Every device has said no: the request ends with an error that names each.
  void give_up(std::size_t i, const Decision& d) {
    for (const auto& [id, h] : hives_)
      for (const DeviceView& at : h.devices)
        ASSERT_NE(d.why.find(place_name(id, at.id) + ": "), std::string::npos) << d.why;
    ++failed_;
    line_.leave(waiting_[i].place);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  /// A hive that told of memory which it does not have.
  void refuse(Asking& a, const Decision& d) {
    std::string& said = a.refusals[place_key(d.hive, d.device)];
    ASSERT_EQ(said, "") << "it was asked again after it had refused, seed " << seed_;
    said = "no room after all";
  }
  void provision(const Asking& a, const Decision& d) {
    const HiveView& h = hives_.at(d.hive);
    for (const Coming& c : coming_)
      ASSERT_FALSE(c.hive == d.hive && c.model == a.wanted.model) << "one worker is made twice, seed " << seed_;
    const auto device = std::ranges::find(h.devices, d.device, &DeviceView::id);
    ASSERT_NE(device, h.devices.end());
    ASSERT_EQ(device->problem, "") << "on a GPU that is lost, seed " << seed_;
    ASSERT_EQ(d.worker_kind, d.device == "cpu" ? "cpu" : "cuda");
    ASSERT_LE((taken(h, d.device) + 1) << 30, device->memory_free) << "memory was promised twice, seed " << seed_;
    coming_.push_back({d.hive, d.device, a.wanted.model, pick(1, 4)});
  }

  std::uint64_t seed_;
  std::mt19937_64 random_;
  bool large_;
  std::set<std::string> liars_;
  int now_ = 0, next_ = 0, asked_ = 0, done_ = 0, failed_ = 0;
  std::map<std::string, HiveView> hives_;
  std::vector<Coming> coming_;
  WaitingLine line_;
  Directory directory_;
  std::set<std::string> known_;
  std::vector<Asking> waiting_;
  std::vector<Running> running_;
};

TEST(Simulation, invariants_hold_for_many_seeds) {
  if (const char* one = std::getenv("LLORCH_SEED")) return Colony(std::strtoull(one, nullptr, 10)).run();
  const char* asked = std::getenv("LLORCH_COLONIES");  // `./dev test --full` takes 100,000
  const std::uint64_t seeds = asked ? std::strtoull(asked, nullptr, 10) : kSeeds;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    Colony(seed).run();
    if (HasFailure()) FAIL() << "LLORCH_SEED=" << seed << " replays it";
  }
}

}  // namespace
}  // namespace llorch::queen
