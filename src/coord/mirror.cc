#include "coord/mirror.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "coord/boot_clock.h"

namespace llorch::coord {

using std::chrono::milliseconds;

Error to_error(const Failure& failure) {
  switch (failure.problem) {
    case Problem::kUnavailable:
      return {ErrorCode::kStoreUnavailable,
              fmt::format("the store of the fleet does not answer: {}{}", failure.message,
                          failure.may_have_happened ? "; the change may have been made all the same" : "")};
    case Problem::kUnauthenticated:
      return {ErrorCode::kStoreUnavailable, fmt::format("the store of the fleet refuses: {}", failure.message)};
    case Problem::kConflict: return {ErrorCode::kResourceInUse, "others change the same at this moment: try again"};
    case Problem::kTooLarge: return {ErrorCode::kPayloadTooLarge, failure.message};
    case Problem::kInvalid: return {ErrorCode::kInvalidRequest, failure.message};
    case Problem::kCompacted:
    case Problem::kLeaseNotFound: break;
  }
  return {ErrorCode::kInternal, fmt::format("the store of the fleet: {}", failure.message)};
}

/// Whoever is called back may destroy the mirror: each callback is called as a copy, and `ended` is looked at behind
/// it.
struct Mirror::State : std::enable_shared_from_this<State> {
  State(CoordStore& s, std::string p, Callbacks c) : store(s), prefix(std::move(p)), callbacks(std::move(c)) {}

  void read();
  void read_page();
  void take_page(Outcome<Page> page);
  void take_all(Revision at);
  void follow();
  void take_events(const std::vector<Event>& events);
  void read_again(const Failure& why);
  void show_contact(bool connected, const std::string& why);
  void tell(const std::vector<Event>& changes);
  void call_waiting();
  void fail_lost(Revision at);
  void when_at(Revision at, std::function<void(Status)> then);
  /// A callback of a call or a watch: not called once another round has begun, or the mirror has ended.
  template<class... Arguments>
  auto guarded(void (State::*then)(Arguments...)) {
    return [weak = weak_from_this(), then, at = round](auto&&... arguments) {
      if (const auto self = weak.lock(); self && self->round == at)
        (self.get()->*then)(std::forward<decltype(arguments)>(arguments)...);
    };
  }

  CoordStore& store;
  std::string prefix;
  Callbacks callbacks;
  std::map<std::string, Entry> entries, fresh;  // fresh: what was read so far, while everything is read
  std::unique_ptr<Watch> watch;
  net::EventLoop::Timer timer;
  std::uint64_t round = 0;  // of reading and following
  Query next;               // the page that is being read
  Revision revision = 0;
  int failures = 0;
  bool ready = false, connected = false, told_contact = false, ended = false;
  std::string problem = "it is being read";
  BootClock::time_point lost_since = BootClock::now();
  struct Waiting {
    std::uint64_t round;  // in which it came
    std::function<void(Status)> then;
  };
  std::multimap<Revision, Waiting> waiting;
};

/// Never inside a callback of the watch, which ends here.
void Mirror::State::read() {
  ++round;
  watch.reset(), timer.cancel(), fresh.clear();
  next = {.key = prefix};
  read_page();
}

void Mirror::State::read_page() { store.range(next, guarded(&State::take_page)); }

void Mirror::State::take_page(Outcome<Page> page) {
  if (!page) {
    const bool smaller = page.error().problem == Problem::kTooLarge && next.limit > 1;
    if (!smaller) return read_again(page.error());
    next.limit = std::max(next.limit / 10, 1);
    return read_page();
  }
  for (Entry& e : page->entries) fresh.insert_or_assign(e.key, std::move(e));
  if (page->more && !fresh.empty()) {
    next.after = fresh.rbegin()->first, next.revision = page->revision;
    return read_page();
  }
  take_all(page->revision);
}

void Mirror::State::take_all(Revision at) {
  failures = 0;
  std::vector<Event> changes;
  for (const auto& [key, entry] : entries)
    if (!fresh.contains(key)) changes.push_back({{.key = key, .modified = at}, true});
  for (const auto& [key, entry] : fresh) {
    const auto old = entries.find(key);
    if (old == entries.end() || old->second != entry) changes.push_back({entry, false});
  }
  entries = std::exchange(fresh, {});
  revision = at, ready = true;
  follow();
  tell(changes);
  if (!ended) fail_lost(at);
  if (!ended) call_waiting();
}

/// Who waited before everything was read, for a revision that the store was at and is not at any more.
void Mirror::State::fail_lost(Revision at) {
  for (auto it = waiting.upper_bound(at); it != waiting.end();) {
    if (it->second.round == round) {
      ++it;
      continue;
    }
    const auto then = std::move(it->second.then);
    waiting.erase(it);
    then(fail(ErrorCode::kStoreUnavailable,
              "the store of the fleet was set back to an older state: the change may be lost"));
    if (ended) return;
    it = waiting.upper_bound(at);
  }
}

void Mirror::State::follow() {
  watch = store.watch({prefix, false, revision + 1},
                      {guarded(&State::take_events), guarded(&State::read_again), guarded(&State::show_contact)});
}

void Mirror::State::take_events(const std::vector<Event>& events) {
  for (const Event& e : events) {
    revision = std::max(revision, e.entry.modified);
    if (e.removed)
      entries.erase(e.entry.key);
    else
      entries.insert_or_assign(e.entry.key, e.entry);
  }
  tell(events);
  if (!ended) call_waiting();
}

void Mirror::State::read_again(const Failure& why) {
  ++round;  // nothing of this one comes any more
  // What is no longer kept can be read at once; what failed, by and by.
  const bool at_once = why.problem == Problem::kCompacted && failures == 0;
  const milliseconds pause = at_once ? milliseconds(0) : milliseconds(100) * (1 << std::min(failures, 4));
  ++failures;
  timer = store.loop().after(pause, [weak = weak_from_this()] {
    if (const auto self = weak.lock(); self && !self->ended) self->read();
  });
  show_contact(false, why.message);
}

void Mirror::State::show_contact(bool now_connected, const std::string& why) {
  const bool first = !std::exchange(told_contact, true);
  if (!now_connected) problem = why.empty() ? "changes do not arrive" : why;
  if (now_connected) problem.clear();
  if (!first && connected == now_connected) return;
  connected = now_connected;
  if (!connected) lost_since = BootClock::now();
  if (const auto told = callbacks.on_contact) told(connected, problem);
}

void Mirror::State::tell(const std::vector<Event>& changes) {
  if (const auto told = callbacks.on_changes; told && !changes.empty()) told(changes);
}

void Mirror::State::call_waiting() {
  while (!ended && !waiting.empty() && waiting.begin()->first <= revision) {
    const auto then = std::move(waiting.begin()->second.then);
    waiting.erase(waiting.begin());
    then({});
  }
}

void Mirror::State::when_at(Revision at, std::function<void(Status)> then) {
  waiting.emplace(at, Waiting{round, std::move(then)});
  if (at > revision) return;
  store.loop().post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->call_waiting();
  });
}

Mirror::Mirror(CoordStore& store, std::string prefix, Callbacks callbacks)
    : state_(std::make_shared<State>(store, std::move(prefix), std::move(callbacks))) {
  state_->read();
}

Mirror::~Mirror() {
  State& s = *state_;
  s.ended = true, ++s.round;
  s.callbacks = {}, s.waiting.clear();
  s.timer.cancel(), s.watch.reset();
}

bool Mirror::ready() const { return state_->ready; }
Revision Mirror::revision() const { return state_->revision; }
const std::map<std::string, Entry>& Mirror::entries() const { return state_->entries; }
const Entry* Mirror::find(const std::string& key) const {
  const auto it = state_->entries.find(key);
  return it == state_->entries.end() ? nullptr : &it->second;
}
bool Mirror::in_contact() const { return state_->connected; }
std::chrono::nanoseconds Mirror::lag() const {
  return state_->connected ? std::chrono::nanoseconds(0) : BootClock::now() - state_->lost_since;
}
const std::string& Mirror::problem() const { return state_->problem; }

void Mirror::when_at(Revision revision, std::function<void()> then) {
  state_->when_at(revision, [then = std::move(then)](const Status&) { then(); });
}

namespace {

/// One change of one key, until it is made or refused.
struct Update : std::enable_shared_from_this<Update> {
  Update(CoordStore& s, std::string k, Mirror::Change c, std::function<void(Outcome<Revision>, Status)> d)
      : store(s), key(std::move(k)), change(std::move(c)), done(std::move(d)) {}
  void attempt(const Entry* now) {
    const auto wanted = change(now ? &now->value : nullptr);
    if (!wanted) return done(0, std::unexpected(wanted.error()));
    if (now ? *wanted == now->value : !*wanted) return done(now ? now->modified : 0, {});  // it is so already
    const Revision expected = now ? now->modified : 0;
    Transaction t{{{key, expected}}, {{key, *wanted}}};
    store.commit(std::move(t), [self = shared_from_this()](Outcome<Revision> made) {
      const bool again = !made && made.error().problem == Problem::kConflict && ++self->conflicts < kConflictsMax;
      if (!again) return self->done(std::move(made), {});
      self->store.get(self->key, [self](Outcome<Lookup> found) {
        if (!found) return self->done(std::unexpected(std::move(found).error()), {});
        self->attempt(found->entry ? &*found->entry : nullptr);
      });
    });
  }
  static constexpr int kConflictsMax = 50;  // with each of them another one has made its change
  CoordStore& store;
  std::string key;
  Mirror::Change change;
  std::function<void(Outcome<Revision>, Status)> done;
  int conflicts = 0;
};

}  // namespace

void Mirror::update(std::string key, Change change, std::function<void(Status)> done) {
  const auto finish = [weak = std::weak_ptr(state_), done = std::move(done)](const Outcome<Revision>& made,
                                                                             const Status& refused) {
    const auto self = weak.lock();
    if (!self || self->ended) return;
    if (!refused) return done(refused);
    if (!made) return done(std::unexpected(to_error(made.error())));
    self->when_at(*made, done);
  };
  const auto update = std::make_shared<Update>(state_->store, key, std::move(change), finish);
  // What is held may be old, which the store finds out.
  state_->store.loop().post([weak = std::weak_ptr(state_), update] {
    const auto self = weak.lock();
    if (!self) return;
    const auto now = self->entries.find(update->key);
    update->attempt(now == self->entries.end() ? nullptr : &now->second);
  });
}

}  // namespace llorch::coord
