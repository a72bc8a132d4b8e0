// Idempotency-Key: one job for a key, and the same answer again for ten minutes (J-07).
//
// The first request with a key reserves it before anything is done for it; those that come while its answer is being
// made wait for it. A request that fails, or whose client leaves, releases its key: the next in line reserves it. Keys
// hold the principal's name, so that nobody meets another's. Bounded by bytes: the oldest answers go first. Threads:
// the event loop's.
#pragma once

#include <functional>
#include <list>
#include <optional>
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
  [[nodiscard]] Claim claim(const std::string& key, const std::string& body_hash, Time now,
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
  struct Entry {
    std::string body_hash;
    std::optional<Answer> answer;
    Time since;
    std::size_t bytes = 0;
    std::vector<std::function<void()>> waiting;
    std::list<std::string>::iterator age;
  };
  using Entries = std::unordered_map<std::string, Entry>;
  void erase(Entries::iterator it);

  std::size_t bytes_max_, bytes_ = 0;
  Entries entries_;
  std::list<std::string> by_age_;  // the oldest first
};

}  // namespace llorch::worker
