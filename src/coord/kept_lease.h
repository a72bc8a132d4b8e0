// A lease that is kept alive, and known to be lost without asking anybody.
//
// It is renewed three times in its time to live. It counts as held until nine tenths of that time have passed since the
// last renewal that was answered was sent: by a clock of this machine that goes on while it sleeps, so that a process
// that was stopped knows at once. The store ends it later than that, as long as the two clocks do not differ by a
// tenth. Threads: the loop's. The store must outlive it. Whoever is called back may destroy it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "coord/coord_store.h"

namespace llorch::coord {

class KeptLease {
 public:
  struct Callbacks {
    std::function<void(LeaseId)> on_granted;  // once; until then granting is tried again and again
    /// At most once, after on_granted: it has ended, or may have. Nothing comes after it.
    std::function<void(const std::string& why)> on_lost;
    /// A call that failed and will be repeated. May be empty.
    std::function<void(const Failure&)> on_problem;
  };
  KeptLease(CoordStore& store, std::chrono::seconds ttl, Callbacks callbacks);
  /// Revokes it, without waiting.
  ~KeptLease();
  KeptLease(const KeptLease&) = delete;
  KeptLease& operator=(const KeptLease&) = delete;

  /// Whether nobody else can have been told that it has ended. Asks the clock, not the store.
  [[nodiscard]] bool held() const;
  [[nodiscard]] LeaseId id() const;  // 0 before it is granted

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace llorch::coord
