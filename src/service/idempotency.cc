#include "service/idempotency.h"

#include <fmt/format.h>

namespace llorch::service {
namespace {

constexpr std::chrono::minutes kWindow{10};
constexpr std::size_t kEntryBytes = 512;  // what an entry takes besides its texts, roughly

std::size_t bytes_of(const IdempotencyStore::Answer& answer) {
  std::size_t n = answer.job_id.size();
  if (answer.response) n += answer.response->body.size() + 1024;  // the headers are ours, and short
  return n;
}

void call_all(std::vector<std::function<void()>> waiting) {
  for (const auto& again : waiting) again();
}

}  // namespace

std::string IdempotencyStore::key_of(const std::string& principal, const std::string& route, const std::string& given) {
  return fmt::format("{}:{}|{}|{}", principal.size(), principal, route, given);
}

IdempotencyStore::Claim IdempotencyStore::claim(const std::string& owner, const std::string& key,
                                                const std::string& body_hash, Time now, std::function<void()> again) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) {
    Entry e;
    e.body_hash = body_hash, e.since = now;
    e.age = by_age_.insert(by_age_.end(), key);
    e.owner = owners_.try_emplace(owner).first;
    Keys& keys = e.owner->second.keys;
    e.age_of_owner = keys.insert(keys.end(), key);
    Entry& entry = entries_.emplace(key, std::move(e)).first->second;
    resize(entry, kEntryBytes + 3 * key.size() + body_hash.size());
    return Claim::kReserved;
  }
  if (it->second.body_hash != body_hash) return Claim::kMismatch;
  if (it->second.answer) return Claim::kAnswered;
  it->second.waiting.push_back(std::move(again));
  return Claim::kWaits;
}

const IdempotencyStore::Answer* IdempotencyStore::answer(const std::string& key) const {
  const auto it = entries_.find(key);
  return it != entries_.end() && it->second.answer ? &*it->second.answer : nullptr;
}

void IdempotencyStore::answered(const std::string& key, Answer answer) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return;
  Entry& e = it->second;
  const std::size_t before = e.answer ? bytes_of(*e.answer) : 0;
  resize(e, e.bytes - before + bytes_of(answer));
  e.answer = std::move(answer);
  const auto waiting = std::exchange(e.waiting, {});
  call_all(waiting);  // they read the answer now, before it may have to go
  while (bytes_ > bytes_max_) {
    const auto old = next_to_evict();
    if (old == entries_.end()) return;
    erase(old);
  }
}

/// The oldest answer of the owner that takes the most. What is still being made stays: admission bounds it.
auto IdempotencyStore::next_to_evict() -> Entries::iterator {
  for (auto largest = by_bytes_.rbegin(); largest != by_bytes_.rend(); ++largest)
    for (const std::string& key : largest->second->keys)
      if (const auto it = entries_.find(key); it->second.answer) return it;
  return entries_.end();
}

void IdempotencyStore::resize(Entry& entry, std::size_t bytes) {
  Owner& owner = entry.owner->second;
  by_bytes_.erase({owner.bytes, &owner});
  owner.bytes = owner.bytes - entry.bytes + bytes;
  bytes_ = bytes_ - entry.bytes + bytes;
  entry.bytes = bytes;
  by_bytes_.emplace(owner.bytes, &owner);
}

void IdempotencyStore::release(const std::string& key) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return;
  const auto waiting = std::exchange(it->second.waiting, {});
  erase(it);
  call_all(waiting);
}

void IdempotencyStore::erase(Entries::iterator it) {
  Entry& e = it->second;
  resize(e, 0);
  by_age_.erase(e.age);
  Owner& owner = e.owner->second;
  owner.keys.erase(e.age_of_owner);
  if (owner.keys.empty()) {
    by_bytes_.erase({owner.bytes, &owner});
    owners_.erase(e.owner);
  }
  entries_.erase(it);
}

void IdempotencyStore::sweep(Time now) {
  while (!by_age_.empty()) {
    const auto it = entries_.find(by_age_.front());
    if (now - it->second.since <= kWindow) return;
    if (it->second.answer) {
      erase(it);
    } else {  // still being made: its time begins anew
      it->second.since = now;
      by_age_.splice(by_age_.end(), by_age_, it->second.age);
    }
  }
}

}  // namespace llorch::service
