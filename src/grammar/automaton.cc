#include "grammar/automaton.h"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "grammar/limits.h"

namespace llorch {
namespace {

constexpr std::uint32_t kEmptySlot = 0xffffffff;
constexpr std::uint32_t kRootCall = kNone;  // the entry of the root's frame: the text ends

std::uint64_t mix(std::uint64_t h, std::uint64_t v) {
  h = (h ^ v) * 0x9e3779b97f4a7c15ull;
  return h ^ (h >> 29);
}

}  // namespace

using namespace grammar_limits;

bool Automaton::PairSet::insert(std::uint64_t key) {
  if (keys_.size() < 2 * (size_ + 1)) grow();
  const std::size_t mask = keys_.size() - 1;
  for (std::size_t i = mix(0, key) & mask;; i = (i + 1) & mask) {
    if (rounds_[i] != round_) {
      rounds_[i] = round_, keys_[i] = key, ++size_;
      return true;
    }
    if (keys_[i] == key) return false;
  }
}

void Automaton::PairSet::grow() {
  std::vector<std::uint64_t> keys(std::max<std::size_t>(64, keys_.size() * 4));
  std::vector<std::uint32_t> rounds(keys.size(), 0);
  keys.swap(keys_), rounds.swap(rounds_);
  const std::uint32_t old = std::exchange(round_, 1);
  size_ = 0;
  for (std::size_t i = 0; i < keys.size(); ++i)
    if (rounds[i] == old) insert(keys[i]);
}

Automaton::Automaton(std::shared_ptr<const Network> net, std::uint64_t work) : net_(std::move(net)), work_(work) {
  state_table_.assign(64, kEmptySlot), frame_table_.assign(64, kEmptySlot);
  fresh_of_rule_.assign(net_->rules(), 0);
  std::vector<Repetition> root{{kRootCall, 0, 0}};
  intern_frame(root);  // frame 0
  begin();
  intern();  // state 0: dead
  begin();
  visit(net_->rule(net_->root()).start, 0);
  close();
  start_ = intern();
}

void Automaton::begin() {
  pending_.clear(), found_.clear(), seen_.clear();
  fresh_size_ = 0;
  accepts_ = false;
}

Automaton::Id Automaton::find_step(Id from, std::uint8_t byte) {
  begin();
  const bool failed = std::exchange(failed_, false);
  Network::Range alike;
  for (std::uint32_t i = 0; i < states_[from].size; ++i) {
    const Config config = configs_[states_[from].first + i];
    net_->each(config.state, byte, alike, [&](NetState to) { visit(to, config.frame); });
  }
  close();
  const Id to = intern();
  if (std::exchange(failed_, failed_ || failed))
    return kDead;  // known to nobody: whoever comes here next must fail, too
  for (unsigned b = alike.low; b <= alike.high; ++b) row(from)[b] = to;
  if (to == kDead)
    for (unsigned b = alike.low; b <= alike.high; ++b) states_[from].dead.add(static_cast<std::uint8_t>(b));
  return to;
}

Automaton::Id Automaton::of(std::span<const Config> configs) {
  const std::vector<Config> copy(configs.begin(), configs.end());
  begin();
  for (const Config& c : copy) visit(c.state, c.frame);
  close();
  return intern();
}

Automaton::Id Automaton::after_return(std::uint32_t frame) {
  begin();
  return_to(frame);
  close();
  return intern();
}

void Automaton::close() {
  while (!pending_.empty()) {
    const auto [state, frame] = pending_.back();
    pending_.pop_back();
    ++work_;
    const Network::State& s = net_->state(state);
    if (!s.alive || !seen_.insert(std::uint64_t{state} << 32 | frame)) continue;
    if (s.edges != kNone || s.fallback != kNone) found_.push_back({state, frame});
    for (std::uint32_t e = s.jumps; e != kNone; e = net_->edge(e).next) visit(net_->edge(e).to, frame);
    if (s.end && !(frame & kFresh)) return_to(frame);  // an empty call is passed by where it is made
    if (s.call != kNone) enter(s.call, 0, frame);
    if (found_.size() > kConfigsPerState || pending_.size() > 8 * kConfigsPerState) {
      failed_ = true;
      return begin();
    }
  }
}

void Automaton::return_to(std::uint32_t frame) {
  const Frame f = frames_[frame];
  for (std::uint32_t i = 0; i < f.size; ++i) {
    const Repetition entry = entries_[f.first + i];
    if (entry.call == kRootCall) {
      accepts_ = true;
      continue;
    }
    const Network::Call& call = net_->call(entry.call);
    const std::uint32_t most = call.most == kNone ? call.least : call.most;
    enter(entry.call, std::min(entry.done + 1, std::max(most, 1u)), entry.parent);
  }
}

void Automaton::enter(std::uint32_t index, std::uint32_t done, std::uint32_t frame) {
  const Network::Call& call = net_->call(index);
  const Network::Rule& rule = net_->rule(call.rule);
  if (!net_->state(call.after).alive) return;
  if (done >= call.least || rule.nullable) visit(call.after, frame);
  if (call.most != kNone && done >= call.most) return;
  const NetState start = rule.start;
  if (!net_->state(start).alive) return;
  std::uint32_t& fresh = fresh_of_rule_[call.rule];
  if (fresh >= fresh_size_ || fresh_[fresh].rule != call.rule) {
    fresh = static_cast<std::uint32_t>(fresh_size_++);
    if (fresh_.size() < fresh_size_) fresh_.emplace_back();
    fresh_[fresh].rule = call.rule;
    fresh_[fresh].entries.clear(), fresh_[fresh].dependents.clear();
    fresh_[fresh].id = kNone;
    visit(start, kFresh | fresh);
  }
  const Network::State& after = net_->state(call.after);
  const bool last = call.most == 1 && after.end && after.edges == kNone && after.jumps == kNone &&
                    after.call == kNone && after.fallback == kNone;
  if (!last) return add_entry(fresh, {index, done, frame});
  // A call at the end of a rule returns where the rule does: recursion there takes no stack.
  if (!(frame & kFresh)) {
    const Frame f = frames_[frame];
    for (std::uint32_t i = 0; i < f.size; ++i) add_entry(fresh, entries_[f.first + i]);
    return;
  }
  const std::uint32_t caller = frame & ~kFresh;
  if (caller == fresh) return;
  if (std::find(fresh_[caller].dependents.begin(), fresh_[caller].dependents.end(), fresh) !=
      fresh_[caller].dependents.end())
    return;
  fresh_[caller].dependents.push_back(fresh);
  const std::vector<Repetition> entries = fresh_[caller].entries;
  for (const Repetition& e : entries) add_entry(fresh, e);
}

void Automaton::add_entry(std::size_t fresh, const Repetition& entry) {
  auto& entries = fresh_[fresh].entries;
  work_ += entries.size() / 8;
  for (const Repetition& e : entries)
    if (e.call == entry.call && e.done == entry.done && e.parent == entry.parent) return;
  if (entries.size() >= kConfigsPerState / 16) {
    failed_ = true;
    return;
  }
  entries.push_back(entry);
  for (std::size_t i = 0; i < fresh_[fresh].dependents.size(); ++i) add_entry(fresh_[fresh].dependents[i], entry);
}

std::uint32_t Automaton::keep_frame(std::size_t fresh) {
  if (fresh_[fresh].id != kNone) return fresh_[fresh].id;
  for (Repetition& e : fresh_[fresh].entries)
    if (e.call != kRootCall && (e.parent & kFresh)) e.parent = keep_frame(e.parent & ~kFresh);
  return fresh_[fresh].id = intern_frame(fresh_[fresh].entries);
}

std::uint32_t Automaton::intern_frame(std::vector<Repetition>& entries) {
  const auto key = [](const Repetition& e) { return std::tuple(e.call, e.done, e.parent); };
  const auto same = [&](const Repetition& a, const Repetition& b) { return key(a) == key(b); };
  if (entries.size() > 1) {
    std::sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
    entries.erase(std::unique(entries.begin(), entries.end(), same), entries.end());
  }
  std::uint64_t h = entries.size();
  for (const Repetition& e : entries) h = mix(mix(h, std::uint64_t{e.call} << 32 | e.done), e.parent);
  const std::size_t mask = frame_table_.size() - 1;
  std::size_t i = h & mask;
  for (; frame_table_[i] != kEmptySlot; i = (i + 1) & mask) {
    const Frame& f = frames_[frame_table_[i]];
    if (f.size == entries.size() && std::equal(entries.begin(), entries.end(), entries_.begin() + f.first, same))
      return frame_table_[i];
  }
  const auto id = static_cast<std::uint32_t>(frames_.size());
  const auto first = static_cast<std::uint32_t>(entries_.size());
  entries_.insert(entries_.end(), entries.begin(), entries.end());
  frames_.push_back({first, static_cast<std::uint32_t>(entries.size())});
  frame_table_[i] = id;
  if (frames_.size() * 2 > frame_table_.size()) rehash_frames();
  return id;
}

void Automaton::rehash_frames() {
  frame_table_.assign(frame_table_.size() * 4, kEmptySlot);
  const std::size_t mask = frame_table_.size() - 1;
  for (std::uint32_t id = 0; id < frames_.size(); ++id) {
    std::uint64_t h = frames_[id].size;
    for (const Repetition& e : entries(id)) h = mix(mix(h, std::uint64_t{e.call} << 32 | e.done), e.parent);
    std::size_t i = h & mask;
    while (frame_table_[i] != kEmptySlot) i = (i + 1) & mask;
    frame_table_[i] = id;
  }
}

Automaton::Id Automaton::intern() {
  for (Config& c : found_)
    if (c.frame & kFresh) c.frame = keep_frame(c.frame & ~kFresh);
  std::sort(found_.begin(), found_.end());
  found_.erase(std::unique(found_.begin(), found_.end()), found_.end());
  std::uint64_t h = found_.size() * 2 + (accepts_ ? 1 : 0);
  for (const Config& c : found_) h = mix(h, std::uint64_t{c.state} << 32 | c.frame);
  const std::size_t mask = state_table_.size() - 1;
  std::size_t i = h & mask;
  for (; state_table_[i] != kEmptySlot; i = (i + 1) & mask) {
    const State& s = states_[state_table_[i]];
    if (s.size == found_.size() && s.accepts == accepts_ &&
        std::equal(found_.begin(), found_.end(), configs_.begin() + s.first))
      return state_table_[i];
  }
  // What throws comes first, and what it leaves behind is of no state.
  const auto id = static_cast<Id>(states_.size());
  if (blocks_.size() * kBlock <= id) blocks_.push_back(std::make_unique_for_overwrite<Id[]>(std::size_t{kBlock} * 256));
  State state;
  state.first = static_cast<std::uint32_t>(configs_.size());
  state.size = static_cast<std::uint32_t>(found_.size());
  state.accepts = accepts_;
  configs_.insert(configs_.end(), found_.begin(), found_.end());
  states_.push_back(state);
  state_table_[i] = id;
  std::fill_n(row(id), 256, id == kDead ? kDead : kUnknown);
  if (states_.size() * 2 > state_table_.size()) rehash_states();
  return id;
}

void Automaton::rehash_states() {
  state_table_.assign(state_table_.size() * 4, kEmptySlot);
  const std::size_t mask = state_table_.size() - 1;
  for (Id id = 0; id < states_.size(); ++id) {
    std::uint64_t h = states_[id].size * 2 + (states_[id].accepts ? 1 : 0);
    for (const Config& c : configs(id)) h = mix(h, std::uint64_t{c.state} << 32 | c.frame);
    std::size_t i = h & mask;
    while (state_table_[i] != kEmptySlot) i = (i + 1) & mask;
    state_table_[i] = id;
  }
}

bool Automaton::crowded() const {
  return states_.size() > kStatesKept || configs_.size() > kConfigsKept || entries_.size() > kConfigsKept;
}

std::uint32_t Automaton::import_frame(const Automaton& other, std::uint32_t frame, std::vector<std::uint32_t>& known) {
  // Frames are kept after those that they return to: parents come first without recursion.
  std::vector<std::uint32_t> work{frame};
  while (!work.empty()) {
    const std::uint32_t f = work.back();
    if (known[f] != kNone) {
      work.pop_back();
      continue;
    }
    std::vector<Repetition> entries(other.entries(f).begin(), other.entries(f).end());
    bool ready = true;
    for (Repetition& e : entries) {
      if (e.call == kRootCall) continue;
      if (known[e.parent] == kNone)
        work.push_back(e.parent), ready = false;
      else
        e.parent = known[e.parent];
    }
    if (!ready) continue;
    known[f] = intern_frame(entries);
    work.pop_back();
  }
  return known[frame];
}

/// States are looked at in order of their distance from the first one. Where some characters lead nowhere, the search
/// begins anew without them, or, where most do, without the one that led there (a quote, a backslash). Far from the
/// first state a dead end bounds the length instead.
struct Automaton::Search {
  Automaton& automaton;
  CharacterSet set;
  std::uint64_t work_max;  // of the automaton, from where on it is given up
  struct Found {
    Id id;
    std::uint32_t distance;  // from the first state, in characters
    std::uint8_t last;       // the one that led there
  };
  std::vector<Found> found{};
  std::unordered_set<std::uint64_t> tails{};  // states inside of characters that read all that may follow there

  /// How many characters can be read from `start` on, kNone: any number.
  std::uint32_t run(Id start);

 private:
  enum class Outcome { kRead, kDead, kTooMuch };
  [[nodiscard]] bool too_much() {
    return ++automaton.search_steps_ > kSearchStepsMax || automaton.work_ > work_max || automaton.crowded();
  }
  void next_round() {
    found.clear(), tails.clear();
    ++automaton.search_round_;
  }
  void see(const Found& f) {
    auto& rounds = automaton.search_round_of_;
    if (rounds.size() < automaton.states_.size()) rounds.resize(automaton.states_.size(), 0);
    if (std::exchange(rounds[f.id], automaton.search_round_) != automaton.search_round_) found.push_back(f);
  }
  /// Reads the characters that begin with to.last from `id` on.
  Outcome read(Id id, const Found& to);
  Outcome read_tail(const Found& at, const Utf8Tail& tail);
  /// The characters of `set` that cannot be read from there on; nothing: finding out is too dear.
  std::optional<CharacterSet> refused(const Found& at);
};

Automaton::Search::Outcome Automaton::Search::read(Id id, const Found& to) {
  if (too_much()) return Outcome::kTooMuch;
  const Id next = automaton.step(id, to.last);
  return next == kDead ? Outcome::kDead : read_tail({next, to.distance, to.last}, Utf8Tail::of(to.last));
}

Automaton::Search::Outcome Automaton::Search::read_tail(const Found& at, const Utf8Tail& tail) {
  if (tail.bytes == 0) {
    see(at);
    return Outcome::kRead;
  }
  // Inside of a character, states are few and most bytes lead to the same one.
  const std::uint64_t key =
      std::uint64_t{at.id} << 32 | static_cast<unsigned>(tail.bytes << 16 | tail.low << 8 | tail.high);
  if (tails.contains(key)) return Outcome::kRead;
  Id last = kDead;
  for (unsigned b = tail.low; b <= tail.high; ++b) {
    if (too_much()) return Outcome::kTooMuch;
    const Id to = automaton.step(at.id, static_cast<std::uint8_t>(b));
    if (to == kDead) return Outcome::kDead;
    if (to == last) continue;
    last = to;
    const Outcome o = read_tail({to, at.distance, at.last}, tail.behind(static_cast<std::uint8_t>(b)));
    if (o != Outcome::kRead) return o;
  }
  tails.insert(key);
  return Outcome::kRead;
}

std::optional<CharacterSet> Automaton::Search::refused(const Found& at) {
  CharacterSet out;
  const bool done = set.all([&](std::uint8_t first) {
    const Outcome o = read(at.id, {kDead, at.distance + 1, first});
    if (o == Outcome::kDead) out.add(first);
    return o != Outcome::kTooMuch && !automaton.failed_;
  });
  return done ? std::optional(out) : std::nullopt;
}

std::uint32_t Automaton::Search::run(Id start) {
  for (int round = 0; round < kSearchRounds && !set.empty(); ++round) {
    next_round();
    see({start, 0, 0});
    std::uint32_t faulty = kNone;  // the distance of states that do not read all: the others there are looked at, too
    for (std::size_t i = 0; i < found.size() && found[i].distance <= faulty; ++i) {
      const Found at = found[i];
      const bool enough = at.distance >= kSearchLength || found.size() > kSearchStatesMax;
      const auto dead = enough ? std::nullopt : refused(at);
      if (!dead) return at.distance;
      if (dead->empty()) continue;
      if (at.distance >= kSearchNear) return at.distance;
      if (at.distance > 0 && dead->size() * 2 > set.size())
        set.remove(at.last);
      else
        set.remove(*dead);
      if (at.distance > 0) faulty = at.distance;
    }
    if (faulty == kNone) return kNone;
  }
  return 0;
}

void Automaton::begin_searches(Id start) {
  search_steps_ = 0, search_work_ = 0;
  State& s = states_[start];
  if (s.safe_length < kSearchLength && !s.safe.empty()) s.explored = false;
}

bool Automaton::explore(Id id, const CharacterSet& set, std::uint32_t length) {
  if (search_steps_ > kSearchStepsMax || search_work_ > kSearchWorkMax || crowded()) return false;
  const bool failed = std::exchange(failed_, false);
  const std::uint64_t before = work_;
  // What the state refuses at once is seen before anything is searched for.
  const bool begins = set.all([&](std::uint8_t first) { return ++search_steps_, step(id, first) != kDead; });
  if (begins || failed_) states_[id].explored = true;
  if (begins) {
    CharacterSet all;
    for (unsigned b = 0; b < 256; ++b)
      if (Utf8Tail::of(static_cast<std::uint8_t>(b)).bytes >= 0) all.add(static_cast<std::uint8_t>(b));
    Search search{*this, all, work_ + kSearchWorkMax - search_work_};
    const std::uint32_t most = search.run(id);
    for (const Search::Found& f : search.found) {
      State& s = states_[f.id];
      if (f.distance >= most || !s.safe.within(search.set)) continue;
      if (s.safe_length == kNone && search.set.within(s.safe)) continue;  // more is known
      s.safe = search.set;
      s.safe_length = most == kNone ? kNone : most - f.distance;
      // A search of its own could find much more for a state that begins with many other characters, too.
      CharacterSet firsts = all;
      firsts.remove(s.dead);
      if (search.set.size() * 2 >= firsts.size()) s.explored = true;
    }
  }
  failed_ = failed;
  search_work_ += work_ - before, work_ = before;  // it has a bound of its own
  return set.within(states_[id].safe) && length <= states_[id].safe_length;
}

Automaton::Id Automaton::import(const Automaton& other, Id id) {
  begin();
  std::vector<std::uint32_t> known(other.frames_.size(), kNone);
  for (const Config& c : other.configs(id)) found_.push_back({c.state, import_frame(other, c.frame, known)});
  accepts_ = other.accepts(id);
  return intern();
}

}  // namespace llorch
