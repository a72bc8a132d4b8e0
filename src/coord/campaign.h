// Leadership: of all who campaign for a key, one at a time leads.
//
// A candidate tries to make the key, bound to its lease; who succeeds leads until the lease is lost or the key changes.
// Each leader has an epoch, the revision at which it made the key: higher than those of all leaders before. Who carries
// out orders of leaders refuses those of an older epoch than it has seen, because a leader that was stopped may act
// once more before it learns that it has lost: leads() asks the clock and says so at once, but no program can look at
// the same moment as it acts.
// Threads: the loop's. The store must outlive it. Whoever is called back may destroy it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "coord/coord_store.h"

namespace llorch::coord {

class Campaign {
 public:
  struct Options {
    std::string key;
    std::string value;             // says who this candidate is
    std::chrono::seconds ttl{10};  // a leader that dies is replaced after so long
  };
  struct Callbacks {
    std::function<void(Revision epoch)> on_won;
    /// After each on_won at most once; the campaign goes on.
    std::function<void(const std::string& why)> on_lost;
    /// The value of whoever leads, oneself included; empty: nobody. May be empty.
    std::function<void(const std::string& value)> on_leader;
    /// A call that failed and will be repeated. May be empty.
    std::function<void(const Failure&)> on_problem;
  };
  Campaign(CoordStore& store, Options options, Callbacks callbacks);
  /// Resigns: the next candidate need not wait for the lease's end.
  ~Campaign();
  Campaign(const Campaign&) = delete;
  Campaign& operator=(const Campaign&) = delete;

  /// Whether this candidate leads now, by the clock.
  [[nodiscard]] bool leads() const;
  [[nodiscard]] Revision epoch() const;  // 0: it does not lead

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace llorch::coord
