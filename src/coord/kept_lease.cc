#include "coord/kept_lease.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "coord/boot_clock.h"

namespace llorch::coord {

using std::chrono::milliseconds;

/// Whoever is called back may destroy the lease: each callback is called as a copy, the last thing that is done or with
/// a look at `ended` behind it, by who holds the state.
struct KeptLease::State : std::enable_shared_from_this<State> {
  State(CoordStore& s, std::chrono::seconds t, Callbacks c) : store(s), wanted(t), callbacks(std::move(c)) {}

  void grant();
  void renew();
  void take_granted(const LeaseGrant& grant, BootClock::time_point sent);
  void extend(std::chrono::seconds ttl, BootClock::time_point sent);
  void watch_limit();
  void lose(const std::string& why);
  void later(milliseconds delay, void (State::*what)());
  [[nodiscard]] milliseconds third() const { return milliseconds(ttl) / 3; }
  [[nodiscard]] bool held() const { return id != 0 && !lost && BootClock::now() < limit; }

  CoordStore& store;
  std::chrono::seconds wanted, ttl{0};
  Callbacks callbacks;
  LeaseId id = 0;
  BootClock::time_point limit;
  bool lost = false, ended = false;
  net::EventLoop::Timer next, end;
};

void KeptLease::State::later(milliseconds delay, void (State::*what)()) {
  next = store.loop().after(delay, [weak = weak_from_this(), what] {
    if (const auto self = weak.lock()) (self.get()->*what)();
  });
}

void KeptLease::State::grant() {
  const auto sent = BootClock::now();
  // The answer may come when nobody wants it any more: then the lease is given back.
  store.grant(wanted, [weak = weak_from_this(), &s = store, sent](const Outcome<LeaseGrant>& grant) {
    const auto self = weak.lock();
    if (!self || self->ended) {
      if (grant) s.revoke(grant->id, [](const Outcome<void>&) {});
      return;
    }
    if (grant) return self->take_granted(*grant, sent);
    self->later(std::clamp(milliseconds(self->wanted) / 6, milliseconds(100), milliseconds(2000)), &State::grant);
    if (const auto told = self->callbacks.on_problem) told(grant.error());
  });
}

void KeptLease::State::take_granted(const LeaseGrant& grant, BootClock::time_point sent) {
  id = grant.id;
  extend(grant.ttl, sent);
  later(third(), &State::renew);
  if (const auto told = callbacks.on_granted) told(id);
  if (!ended) watch_limit();  // which may be over
}

void KeptLease::State::extend(std::chrono::seconds granted, BootClock::time_point sent) {
  ttl = granted;
  limit = std::max(limit, sent + milliseconds(ttl) * 9 / 10);
}

void KeptLease::State::renew() {
  const auto sent = BootClock::now();
  if (sent >= limit) return lose("it was not renewed in time");
  store.keep_alive(id, [weak = weak_from_this(), sent](const Outcome<std::chrono::seconds>& left) {
    const auto self = weak.lock();
    if (!self || self->lost || self->ended) return;
    if (!left && left.error().problem == Problem::kLeaseNotFound) return self->lose(left.error().message);
    // An answer that comes too late changes nothing: others may have been told meanwhile.
    if (BootClock::now() >= self->limit) return self->lose("it was not renewed in time");
    if (left) {
      self->extend(*left, sent);
      return self->later(self->third(), &State::renew);
    }
    self->later(self->third() / 4, &State::renew);
    if (const auto told = self->callbacks.on_problem) told(left.error());
  });
}

void KeptLease::State::watch_limit() {
  const auto now = BootClock::now();
  if (now >= limit) return lose("it was not renewed in time");
  end = store.loop().after(std::chrono::ceil<milliseconds>(limit - now), [weak = weak_from_this()] {
    if (const auto self = weak.lock(); self && !self->lost) self->watch_limit();
  });
}

void KeptLease::State::lose(const std::string& why) {
  if (std::exchange(lost, true)) return;
  next.cancel();
  if (const auto told = std::exchange(callbacks.on_lost, nullptr)) told(why);
}

KeptLease::KeptLease(CoordStore& store, std::chrono::seconds ttl, Callbacks callbacks)
    : state_(std::make_shared<State>(store, ttl, std::move(callbacks))) {
  state_->grant();
}

KeptLease::~KeptLease() {
  state_->ended = true, state_->callbacks = {};
  state_->next.cancel(), state_->end.cancel();
  if (state_->id != 0) state_->store.revoke(state_->id, [](const Outcome<void>&) {});
}

bool KeptLease::held() const { return state_->held(); }
LeaseId KeptLease::id() const { return state_->id; }

}  // namespace llorch::coord
