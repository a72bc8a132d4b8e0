// How often wrong keys come from where, in a fixed amount of memory (S-04).
//
// Failures are counted by address and key, and an address's different wrong keys by address: a daemon that shows one
// outdated key all day holds up itself and nobody else there. Counts are in tables of fixed size that are addressed by
// a keyed hash: nobody's count is evicted by another's, and nobody can choose whose count to share. Sharing a count by
// chance costs a wrong key an earlier 429; a right key is never looked up here. Threads: one at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llorch::security {

class FailureLimiter {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// Notes that `address` showed the wrong key `shown`. True: it has failed too often within a minute.
  [[nodiscard]] bool add(std::string_view address, std::string_view shown, Time now);

 private:
  struct Slot {
    std::int64_t since_s = 0;
    int count = 0;
  };
  using Table = std::vector<Slot>;
  [[nodiscard]] Slot& slot(Table& table, std::string_view what, std::int64_t now_s);
  std::string secret_;
  Table addresses_, pairs_;  // empty until the first failure
};

/// What one network peer can hardly change: an IPv4 address, or the first 64 bits of an IPv6 address.
[[nodiscard]] std::string network_of(std::string_view address);

}  // namespace llorch::security
