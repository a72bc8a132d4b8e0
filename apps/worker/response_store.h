// Responses that a client may go on from or read again (`store`), in memory: the last ones, within a bound.
//
// Threads: any. A response is its principal's alone.
#pragma once

#include <boost/json.hpp>
#include <list>
#include <memory>
#include <mutex>
#include <string>

namespace llorch::worker {

class ResponseStore {
 public:
  static constexpr std::size_t kCountMax = 1024, kBytesMax = 64u << 20;

  struct Kept {
    std::string principal, id;
    boost::json::object response;
    boost::json::array conversation;     // everything so far: earlier items, the request's, the answer's
    std::size_t earlier = 0, input = 0;  // how many of its items are of which kind
    std::size_t bytes = 0;               // of it as text, about
  };
  using KeptPtr = std::shared_ptr<const Kept>;

  void put(Kept kept);
  /// Null where there is none.
  [[nodiscard]] KeptPtr find(const std::string& principal, std::string_view id) const;
  bool erase(const std::string& principal, std::string_view id);

 private:
  [[nodiscard]] std::list<KeptPtr>::const_iterator place_of(const std::string& principal, std::string_view id) const;

  mutable std::mutex mutex_;
  std::list<KeptPtr> kept_;  // the newest first
  std::size_t bytes_ = 0;
};

}  // namespace llorch::worker
