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
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "net/event_loop.h"
#include "net/http_types.h"

namespace llorch::worker {

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

}  // namespace llorch::worker
