#include "worker/idempotency.h"

namespace llorch::worker {
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

IdempotencyStore::Claim IdempotencyStore::claim(const std::string& key, const std::string& body_hash, Time now,
                                                std::function<void()> again) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) {
    by_age_.push_back(key);
    Entry e;
    e.body_hash = body_hash, e.since = now, e.age = std::prev(by_age_.end());
    e.bytes = kEntryBytes + 2 * key.size() + body_hash.size();
    bytes_ += e.bytes;
    entries_.emplace(key, std::move(e));
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
  if (it->second.answer) it->second.bytes -= bytes_of(*it->second.answer), bytes_ -= bytes_of(*it->second.answer);
  it->second.bytes += bytes_of(answer), bytes_ += bytes_of(answer);
  it->second.answer = std::move(answer);
  const auto waiting = std::exchange(it->second.waiting, {});
  call_all(waiting);  // they read the answer now, before it may have to go
  for (auto age = by_age_.begin(); bytes_ > bytes_max_ && age != by_age_.end();) {
    const auto old = entries_.find(*age++);
    if (old->second.answer) erase(old);
  }
}

void IdempotencyStore::release(const std::string& key) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return;
  const auto waiting = std::exchange(it->second.waiting, {});
  erase(it);
  call_all(waiting);
}

void IdempotencyStore::erase(Entries::iterator it) {
  bytes_ -= it->second.bytes;
  by_age_.erase(it->second.age);
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

}  // namespace llorch::worker
