#include "coord/campaign.h"

#include <utility>

#include "coord/kept_lease.h"

namespace llorch::coord {

/// Whoever is called back may destroy the campaign: each callback is called as a copy, the last thing that is done or
/// with a look at `round` behind it, by who holds the state.
struct Campaign::State : std::enable_shared_from_this<State> {
  State(CoordStore& s, Options o, Callbacks c) : store(s), options(std::move(o)), callbacks(std::move(c)) {}

  void begin();
  void try_to_win();
  void look();
  void look_later(const Failure& why);
  void look_soon();
  void follow(Revision from);
  void take(const Event& last);
  void win(Revision at);
  void lose(const std::string& why);
  /// Whether it goes on: false when the campaign, or its lease, has ended inside the callback.
  [[nodiscard]] bool show_leader(const std::string& value);
  /// A callback for calls to the store: not called once the campaign, or the lease that it began with, has ended.
  template<class Argument>
  auto guarded(void (State::*then)(Outcome<Argument>)) {
    return [weak = weak_from_this(), then, at = round](Outcome<Argument> outcome) {
      if (const auto self = weak.lock(); self && self->round == at) (self.get()->*then)(std::move(outcome));
    };
  }
  void take_put(Outcome<Revision> put);
  void take_lookup(Outcome<Lookup> lookup);

  CoordStore& store;
  Options options;
  Callbacks callbacks;
  std::unique_ptr<KeptLease> lease;
  std::unique_ptr<Watch> watch;
  net::EventLoop::Timer timer;
  std::uint64_t round = 0;  // of leases
  Revision epoch = 0;
  std::string leader;
};

/// With a fresh lease; never inside a callback of the old one, which ends here.
void Campaign::State::begin() {
  ++round;
  watch.reset(), timer.cancel();
  const auto weak = weak_from_this();
  lease = std::make_unique<KeptLease>(store, options.ttl,
                                      KeptLease::Callbacks{[weak](LeaseId) {
                                                             if (const auto self = weak.lock()) self->try_to_win();
                                                           },
                                                           [weak](const std::string& why) {
                                                             if (const auto self = weak.lock())
                                                               self->lose("the lease was lost: " + why);
                                                           },
                                                           callbacks.on_problem});
}

void Campaign::State::try_to_win() { store.put(options.key, options.value, 0, guarded(&State::take_put), lease->id()); }

void Campaign::State::take_put(Outcome<Revision> put) {
  if (put) return win(*put);
  switch (put.error().problem) {
    case Problem::kConflict: return look();
    case Problem::kLeaseNotFound: return lose("the lease was lost: " + put.error().message);
    default: return look_later(put.error());  // it may have happened
  }
}

void Campaign::State::look() { store.get(options.key, guarded(&State::take_lookup)); }

void Campaign::State::take_lookup(Outcome<Lookup> lookup) {
  if (!lookup) return look_later(lookup.error());
  if (!lookup->entry && epoch != 0) return lose("its key was removed");
  if (!lookup->entry) return try_to_win();
  if (lookup->entry->lease == lease->id()) {
    if (epoch == 0) return win(lookup->entry->created);
    return follow(lookup->revision + 1);
  }
  if (epoch != 0) return lose("another one has its key");
  if (show_leader(lookup->entry->value)) follow(lookup->revision + 1);
}

void Campaign::State::look_later(const Failure& why) {
  look_soon();
  if (const auto told = callbacks.on_problem) told(why);
}

void Campaign::State::look_soon() {
  timer = store.loop().after(std::chrono::milliseconds(300), [weak = weak_from_this(), at = round] {
    if (const auto self = weak.lock(); self && self->round == at) self->look();
  });
}

void Campaign::State::follow(Revision from) {
  const auto weak = weak_from_this();
  watch = store.watch({options.key, true, from}, {[weak, at = round](const std::vector<Event>& events) {
                                                    const auto self = weak.lock();
                                                    if (self && self->round == at && !events.empty())
                                                      self->take(events.back());
                                                  },
                                                  [weak, at = round](const Failure& why) {
                                                    if (const auto self = weak.lock(); self && self->round == at)
                                                      self->look_later(why);
                                                  },
                                                  {}});
}

void Campaign::State::take(const Event& last) {
  const bool ours = !last.removed && last.entry.lease == lease->id();
  if (epoch != 0 && !ours) return lose(last.removed ? "its key was removed" : "another one has its key");
  const bool removed = last.removed;
  if (show_leader(removed ? "" : last.entry.value) && removed) try_to_win();
}

void Campaign::State::win(Revision at) {
  if (!lease->held()) return;  // on_lost is on its way
  epoch = at;
  follow(at + 1);
  if (!show_leader(options.value)) return;
  if (const auto told = callbacks.on_won) told(at);
}

void Campaign::State::lose(const std::string& why) {
  ++round;
  // Not from a callback of what is destroyed.
  timer = store.loop().after({}, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->begin();
  });
  if (std::exchange(epoch, 0) == 0) return;
  if (const auto told = callbacks.on_lost) told(why);
}

bool Campaign::State::show_leader(const std::string& value) {
  const auto at = round;
  const auto told = callbacks.on_leader;
  if (std::exchange(leader, value) != value && told) told(value);
  return round == at;
}

Campaign::Campaign(CoordStore& store, Options options, Callbacks callbacks)
    : state_(std::make_shared<State>(store, std::move(options), std::move(callbacks))) {
  state_->begin();
}

Campaign::~Campaign() {
  State& s = *state_;
  ++s.round;
  s.callbacks = {};
  s.watch.reset(), s.timer.cancel(), s.lease.reset();
}

bool Campaign::leads() const { return state_->epoch != 0 && state_->lease && state_->lease->held(); }
Revision Campaign::epoch() const { return leads() ? state_->epoch : 0; }

}  // namespace llorch::coord
