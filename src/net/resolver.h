// Names to addresses, off the event loop: getaddrinfo() waits for as long as it likes, one slow name must not hold up
// another, and what nobody waits for any more must not hold up anybody. For the files of this module only.
#pragma once

#include <boost/asio/thread_pool.hpp>

#include "base/result.h"
#include "net/inbox.h"

namespace llorch::net {

class Resolver {
 public:
  /// Addresses as text, IPv6 ones in brackets. Runs on the loop's thread, unless the Lookup was dropped before.
  using Done = std::function<void(Result<std::vector<std::string>> addresses)>;
  /// Whoever waits for a lookup. Dropped: Done does not run.
  class Lookup {
   private:
    friend class Resolver;
    std::shared_ptr<Done> done_;
  };

  explicit Resolver(Inbox& inbox) : inbox_(inbox) {}
  /// Errors: kIo, with the resolver's own words. `authorities`: those of the system are read besides (tls_state.h).
  [[nodiscard]] Lookup find(const std::string& host, bool authorities, Done done);

 private:
  Inbox& inbox_;
  std::unique_ptr<asio::thread_pool> threads_;  // made with the first name; addresses need none
};

}  // namespace llorch::net
