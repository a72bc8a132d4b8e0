// The keys below a prefix, held in memory: read once in pages of one revision, then kept up to date by a watch.
//
// Whoever decides looks here and never waits for the store. What is held is the store as it was at revision(): all of
// it, and nothing later. When the store no longer keeps what was missed, or was set back to an older state,
// everything is read again, and only what differs is told. While nobody answers, what was read last stays.
// Threads: the loop's. The store must outlive it. Whoever is called back may destroy it.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coord/coord_store.h"

namespace llorch::coord {

/// As people and HTTP are told it. kUnavailable and kUnauthenticated: kStoreUnavailable; kConflict: kResourceInUse.
[[nodiscard]] Error to_error(const Failure& failure);

class Mirror {
 public:
  struct Callbacks {
    /// What differs from before, when it is held already: at first everything, in order of keys.
    std::function<void(const std::vector<Event>& changes)> on_changes;
    /// Whether changes arrive; false with the reason. Not called before anything was asked. May be empty.
    std::function<void(bool connected, const std::string& why)> on_contact;
  };
  Mirror(CoordStore& store, std::string prefix, Callbacks callbacks);
  ~Mirror();
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;

  /// Everything was read at least once.
  [[nodiscard]] bool ready() const;
  [[nodiscard]] Revision revision() const;  // 0: nothing was read
  [[nodiscard]] const std::map<std::string, Entry>& entries() const;
  [[nodiscard]] const Entry* find(const std::string& key) const;  // null: there is none

  [[nodiscard]] bool in_contact() const;
  /// For how long changes have not arrived; 0 while they do. By a clock that goes on while the machine sleeps.
  [[nodiscard]] std::chrono::nanoseconds lag() const;
  /// Why they do not; empty while they do.
  [[nodiscard]] const std::string& problem() const;

  /// Calls `then` once everything up to `revision`, at which a key below the prefix was written, is held: after the
  /// call has returned. Not when the mirror is destroyed before. Also when the store was set back to before it.
  void when_at(Revision revision, std::function<void()> then);

  /// What a key is to have instead, by what it has now (null: it is absent): nothing: it is removed. An error: nothing
  /// is written, and that is the outcome.
  using Change = std::function<Result<std::optional<std::string>>(const std::string* now)>;
  /// Changes a key that nobody has changed meanwhile: where somebody has, `change` is asked again, some times. `done`
  /// comes when the store has said yes and the mirror holds it. Errors: those of `change`; to_error();
  /// kStoreUnavailable when the store was set back behind it meanwhile.
  void update(std::string key, Change change, std::function<void(Status)> done);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace llorch::coord
