// For etcd_*.cc only: watches of etcd, as streams that are opened again, and the key that shows that they are alive.
//
// Threads: the loop's.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "coord/etcd_client.h"

namespace llorch::coord::etcd {

/// The watches of one store. Whoever sees that nobody has written the pulse writes it.
class Watches {
 public:
  /// `data`: what all keys of the store begin with; `pulse`: the key that is written.
  Watches(Client& client, std::string data, std::string pulse);
  /// Watches that are left over stay silent.
  ~Watches();
  Watches(const Watches&) = delete;
  Watches& operator=(const Watches&) = delete;

  [[nodiscard]] std::unique_ptr<Watch> open(WatchQuery query, WatchCallbacks callbacks);

 private:
  class Stream;
  class Handle;
  void beat();
  void heard_pulse() { last_pulse_ = net::Clock::now(); }

  Client& client_;
  std::string data_, pulse_;
  std::set<std::shared_ptr<Stream>> streams_;
  net::EventLoop::Timer timer_;
  net::Clock::time_point last_pulse_;
  std::uint64_t seed_, beats_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // ends with it: whoever is called back may destroy it
};

}  // namespace llorch::coord::etcd
