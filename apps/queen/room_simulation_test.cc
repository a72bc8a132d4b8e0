// Models of different sizes on hives with little memory, under a seed: nobody is stopped in vain, memory is promised
// once, a request fails only where no empty machine would do, and everybody else is served. LLORCH_SEED=n replays one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "queen/policy.h"
#include "queen/room.h"

namespace llorch::queen {
namespace {

constexpr int kSeeds = 3000, kRequests = 60, kStepsMax = 20'000;

struct Worker {
  std::string id, model;
  std::int64_t memory = 0;
  int loads = 0, inflight = 0;  // loads: steps until it is ready
  std::int64_t used = 0;
  bool leaving = false, kept = false;  // kept: for whoever had it made
};
struct RoomMachine {
  std::string id;
  std::int64_t memory = 0;
  std::vector<Worker> workers;
  [[nodiscard]] std::int64_t room() const {
    std::int64_t free = memory;
    for (const Worker& w : workers) free -= w.memory;
    return free;
  }
};
struct Waiting {
  WaitingLine::Place place;
  std::string model;
  bool batch = false;
  std::optional<WaitingLine::Place> room;  // its place in the line for a hive's memory
  std::string room_hive, made_on;          // made_on: where its own worker loads
};
struct Running {
  std::string hive, worker;
  int left = 0;
};

class FullColony {
 public:
  explicit FullColony(std::uint64_t seed) : seed_(seed), random_(seed) {
    for (int i = 0, n = pick(1, 3); i < n; ++i) machines_.push_back({"h" + std::to_string(i), pick(2, 10), {}});
    for (int i = 0, n = pick(1, 6); i < n; ++i) sizes_["m" + std::to_string(i)] = pick(1, 11);
  }

  void run() {
    for (now_ = 0; now_ < kStepsMax && (asked_ < kRequests || !waiting_.empty() || !running_.empty()); ++now_) {
      while (asked_ < kRequests && pick(0, 2) > 0) ask();
      advance();
      for (std::size_t i = 0; i < waiting_.size() && !testing::Test::HasFailure();) i += step(i) ? 0 : 1;
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_TRUE(waiting_.empty()) << waiting_.size() << " starve, seed " << seed_ << story();
    EXPECT_EQ(done_ + failed_, asked_) << "seed " << seed_;
  }

 private:
  int pick(int low, int high) { return low + static_cast<int>(random_() % static_cast<std::uint64_t>(high - low + 1)); }
  /// Who waits for what.
  [[nodiscard]] std::string story() const {
    std::string text;
    for (const RoomMachine& m : machines_) {
      text += "\n" + m.id + " room " + std::to_string(m.room()) + " of " + std::to_string(m.memory);
      for (const Worker& w : m.workers)
        text += " " + w.id + ":" + w.model + ":" + std::to_string(w.memory) + (w.leaving ? " leaving" : "") +
                (w.kept ? " kept" : "");
    }
    for (const Waiting& r : waiting_)
      text += "\n" + r.model + (r.batch ? " batch" : "") + (line_.first(r.place) ? " first" : "") + " " +
              (r.room ? r.room_hive + (room_line_.first(*r.room) ? " in turn" : "") : "") + " made on " + r.made_on +
              ": " + decide(view(r), {r.model, "", "", ""}).why;
    return text;
  }
  RoomMachine& machine(const std::string& id) { return *std::ranges::find(machines_, id, &RoomMachine::id); }

  void ask() {
    ++asked_;
    auto it = sizes_.begin();
    std::advance(it, pick(0, static_cast<int>(sizes_.size()) - 1));
    const bool batch = pick(0, 3) == 0;
    waiting_.push_back({line_.join(it->first, batch), it->first, batch, {}, "", ""});
  }
  void advance() {
    for (RoomMachine& m : machines_)
      for (Worker& w : m.workers) w.loads = std::max(0, w.loads - 1);
    std::erase_if(running_, [this](Running& r) {
      if (--r.left > 0) return false;
      for (Worker& w : machine(r.hive).workers)
        if (w.id == r.worker) --w.inflight, w.used = now_;
      ++done_;
      return true;
    });
    for (RoomMachine& m : machines_) {
      std::erase_if(m.workers, [](const Worker& w) { return w.leaving && w.inflight == 0; });
      ASSERT_GE(m.room(), 0) << "memory was promised twice, seed " << seed_;
    }
  }

  [[nodiscard]] std::vector<HiveView> view(const Waiting& r) const {
    std::vector<HiveView> out;
    for (const RoomMachine& m : machines_) {
      HiveView h;
      h.id = m.id, h.known = true, h.devices = {{"cpu", "cpu", m.room() << 30}};
      for (const Worker& w : m.workers)
        if (w.model == r.model)
          h.workers.push_back({w.id, w.model, "cpu", "cpu",
                               w.leaving     ? "stopping"
                               : w.loads > 0 ? "starting"
                                             : "ready",
                               w.inflight, 2});
      if (m.room() < sizes_.at(r.model)) h.refused = true, h.refusal = "no room";
      out.push_back(std::move(h));
    }
    return out;
  }
  [[nodiscard]] bool must_queue(const Waiting& r, const std::string& hive) const {
    return r.room && r.room_hive == hive ? !room_line_.first(*r.room) : room_line_.has(hive);
  }
  void queue_for(Waiting& r, const std::string& hive) {
    if (r.room && r.room_hive == hive) return;
    leave_room(r);
    r.room = room_line_.join(hive, r.batch), r.room_hive = hive;
  }
  void leave_room(Waiting& r) {
    if (r.room) room_line_.leave(*std::exchange(r.room, std::nullopt));
  }
  /// The worker that it had made may go.
  void give_back(Waiting& r) {
    for (RoomMachine& m : machines_)
      for (Worker& w : m.workers)
        if (m.id == r.made_on && w.model == r.model) w.kept = false;
  }
  void end(std::size_t i) {
    leave_room(waiting_[i]);
    give_back(waiting_[i]);
    line_.leave(waiting_[i].place);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  /// One look of one request, as the placer does it. True: it has gone.
  bool step(std::size_t i) {
    Waiting& r = waiting_[i];
    if (!line_.first(r.place)) return leave_room(r), false;
    const Decision d = decide(view(r), {r.model, "", "", ""});
    if (d.kind == Decision::Kind::kUse) {
      for (Worker& w : machine(d.hive).workers)
        if (w.id == d.worker_id) ++w.inflight;
      running_.push_back({d.hive, d.worker_id, pick(1, 9)});
      return end(i), true;
    }
    if (d.kind == Decision::Kind::kProvision) {
      if (must_queue(r, d.hive)) return queue_for(r, d.hive), false;
      give_back(r);
      machine(d.hive).workers.push_back(
          {"w" + std::to_string(next_++), r.model, sizes_.at(r.model), pick(1, 8), 0, now_, false, true});
      r.made_on = d.hive;
      leave_room(r);  // its memory is promised
      return false;
    }
    return d.kind == Decision::Kind::kNone && make_room(i);
  }
  bool make_room(std::size_t i) {
    Waiting& r = waiting_[i];
    std::vector<ShortOfRoom> hives;
    std::int64_t largest = 0;
    for (const RoomMachine& m : machines_) {
      ShortOfRoom h{m.id, "cpu", sizes_.at(r.model), m.room(), m.memory, {}};
      largest = std::max(largest, m.memory);
      for (const Worker& w : m.workers) {
        Evictable e;
        e.hive = m.id, e.worker_id = w.id, e.model = w.model, e.used = w.used, e.inflight = w.inflight;
        e.memory = w.memory, e.settled = w.loads == 0 && !w.leaving && !w.kept;
        h.workers.push_back(std::move(e));
      }
      hives.push_back(std::move(h));
    }
    const RoomPlan plan = plan_room(hives);
    const bool never = sizes_.at(r.model) > largest;
    EXPECT_EQ(plan.kind == RoomPlan::Kind::kNever, never) << "seed " << seed_;
    if (plan.kind == RoomPlan::Kind::kNever) return ++failed_, end(i), true;
    queue_for(r, plan.hive);
    if (!room_line_.first(*r.room) || plan.kind != RoomPlan::Kind::kEvict) return false;
    RoomMachine& m = machine(plan.hive);
    std::int64_t freed = 0;
    for (const Evictable& v : plan.victims)
      for (Worker& w : m.workers)
        if (w.id == v.worker_id) {
          EXPECT_TRUE(w.loads == 0 && !w.leaving && !w.kept) << "seed " << seed_;
          w.leaving = true, freed += w.memory;
        }
    EXPECT_GE(m.room() + freed, sizes_.at(r.model)) << "somebody goes in vain, seed " << seed_;
    return false;
  }

  std::uint64_t seed_;
  std::mt19937_64 random_;
  int asked_ = 0, done_ = 0, failed_ = 0, next_ = 0;
  std::int64_t now_ = 0;
  std::vector<RoomMachine> machines_;
  std::map<std::string, std::int64_t> sizes_;
  WaitingLine line_, room_line_;
  std::vector<Waiting> waiting_;
  std::vector<Running> running_;
};

TEST(RoomSimulation, everybody_is_served_whom_an_empty_machine_could_serve) {
  if (const char* one = std::getenv("LLORCH_SEED")) return FullColony(std::strtoull(one, nullptr, 10)).run();
  for (int seed = 0; seed < kSeeds; ++seed) {
    FullColony(static_cast<std::uint64_t>(seed)).run();
    if (HasFailure()) FAIL() << "LLORCH_SEED=" << seed << " replays it";
  }
}

}  // namespace
}  // namespace llorch::queen
