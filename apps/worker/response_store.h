// Responses that a client may go on from or read again (`store`), in memory: the last ones, within a bound.
//
// Threads: any. A response is its principal's alone.
#pragma once

#include <boost/json.hpp>
#include <list>
#include <mutex>
#include <optional>
#include <string>

namespace llorch::worker {

class ResponseStore {
 public:
  static constexpr std::size_t kCountMax = 1024, kBytesMax = 64u << 20;

  struct Kept {
    std::string principal, id;
    boost::json::object response;
    boost::json::array input;         // of the request
    boost::json::array conversation;  // everything so far: earlier items, input, output
    std::size_t bytes = 0;            // of it as text, about
  };

  void put(Kept kept);
  [[nodiscard]] std::optional<Kept> find(const std::string& principal, std::string_view id) const;
  bool erase(const std::string& principal, std::string_view id);

 private:
  mutable std::mutex mutex_;
  std::list<Kept> kept_;  // the newest first
  std::size_t bytes_ = 0;
};

}  // namespace llorch::worker
