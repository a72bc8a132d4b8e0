// Idempotency-Key: one job for a key, and the same answer again for ten minutes (J-07).
//
// The first request with a key reserves it before anything is done for it; those that come while its answer is being
// made wait for it. A request that fails, or whose client leaves, releases its key: the next in line reserves it. Keys
// hold the principal's name, so that nobody meets another's. Bounded by bytes: the principal that takes the most loses
// its oldest answers first, so that nobody can evict those of others beyond an equal share. Threads: the event loop's.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "net/event_loop.h"
#include "net/http_types.h"

namespace llorch::service {

class IdempotencyStore {
 public:
  using Time = net::Clock::time_point;
  struct Answer {
    std::string job_id;
    std::optional<net::Response> response;  // absent: a stream, which its job's log holds
  };
  enum class Claim {
    kReserved,  // go on; then started(), answered() or release()
    kMismatch,  // the key was used with another body
    kWaits,     // `again` will be called once
    kAnswered   // see answer()
  };

  explicit IdempotencyStore(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  /// Lengths keep apart what the parts could otherwise spell together.
  [[nodiscard]] static std::string key_of(const std::string& principal, const std::string& route,
                                          const std::string& given);

  /// `again`: called when the first request's fate is known, to claim once more; it must bear that its request has
  /// ended meanwhile.
  [[nodiscard]] Claim claim(const std::string& owner, const std::string& key, const std::string& body_hash, Time now,
                            std::function<void()> again);
  [[nodiscard]] const Answer* answer(const std::string& key) const;
  /// There is an answer: whole, or a stream of this job.
  void answered(const std::string& key, Answer answer);
  /// Nothing came of it, or what came is gone: the key is free.
  void release(const std::string& key);
  /// Forgets answers that are older than the window.
  void sweep(Time now);
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] std::size_t count() const { return entries_.size(); }

 private:
  using Keys = std::list<std::string>;  // the oldest first
  struct Owner {
    std::size_t bytes = 0;
    Keys keys;  // never empty
  };
  using Owners = std::map<std::string, Owner>;
  struct Entry {
    std::string body_hash;
    std::optional<Answer> answer;
    Time since;
    std::size_t bytes = 0;
    std::vector<std::function<void()>> waiting;
    Owners::iterator owner;
    Keys::iterator age, age_of_owner;
  };
  using Entries = std::unordered_map<std::string, Entry>;
  void resize(Entry& entry, std::size_t bytes);
  void erase(Entries::iterator it);
  [[nodiscard]] Entries::iterator next_to_evict();

  std::size_t bytes_max_, bytes_ = 0;
  Entries entries_;
  Keys by_age_;
  Owners owners_;
  std::set<std::pair<std::size_t, Owner*>> by_bytes_;  // those of owners_
};

/// A key that a request has reserved: free again when this goes, unless there was an answer.
class ReservedKey {
 public:
  ReservedKey() = default;
  ReservedKey(std::weak_ptr<IdempotencyStore> store, std::string key)
      : store_(std::move(store)), key_(std::move(key)) {}
  ReservedKey(ReservedKey&& other) noexcept
      : store_(std::move(other.store_)), key_(std::exchange(other.key_, std::nullopt)) {}
  ReservedKey& operator=(ReservedKey&& other) noexcept {
    std::swap(store_, other.store_), std::swap(key_, other.key_);
    return *this;
  }
  ~ReservedKey() {
    const auto store = store_.lock();
    if (key_ && store) store->release(*key_);
  }
  void answered(IdempotencyStore::Answer answer) {
    const auto store = store_.lock();
    if (const auto key = std::exchange(key_, std::nullopt); key && store) store->answered(*key, std::move(answer));
  }

 private:
  std::weak_ptr<IdempotencyStore> store_;
  std::optional<std::string> key_;
};

}  // namespace llorch::service
