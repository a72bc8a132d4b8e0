// Which worker keeps which stored response: what a client goes on from, reads or deletes is asked of that worker.
//
// Workers know no keys but the queen's: that a response is its key's alone is kept here. The last kCountMax; a worker
// that has ended has taken its responses along. Threads: the event loop's.
#pragma once

#include <list>
#include <map>
#include <string>
#include <utility>

#include "colony/model_ref.h"

namespace llorch::queen {

class StoredResponses {
 public:
  static constexpr std::size_t kCountMax = 16'384;

  struct Where {
    std::string hive_id, worker_id;
    colony::ModelRef ref;
  };

  void remember(const std::string& principal, const std::string& id, Where where) {
    erase(principal, id);
    order_.push_back({principal, id});
    known_.emplace(order_.back(), Entry{std::move(where), std::prev(order_.end())});
    if (known_.size() > kCountMax) known_.erase(order_.front()), order_.pop_front();
  }
  /// Null where nothing is known of it.
  [[nodiscard]] const Where* find(const std::string& principal, const std::string& id) const {
    const auto at = known_.find({principal, id});
    return at == known_.end() ? nullptr : &at->second.where;
  }
  void erase(const std::string& principal, const std::string& id) {
    const auto at = known_.find({principal, id});
    if (at == known_.end()) return;
    order_.erase(at->second.at);
    known_.erase(at);
  }

 private:
  using Key = std::pair<std::string, std::string>;  // principal, id
  struct Entry {
    Where where;
    std::list<Key>::iterator at;
  };
  std::list<Key> order_;  // the oldest first
  std::map<Key, Entry> known_;
};

}  // namespace llorch::queen
