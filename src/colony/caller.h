// Who opens a daemon of a hive that has joined a colony: the hive itself, and its workers.
//
// Their token is known to the colony's queen alone. From another machine it opens them together with her certificate,
// so that one that was stolen opens nothing; on their own machine it is enough. A connection shows its certificate
// once, and a session that is resumed shows none: whether it still lasts is looked at with each request. Threads: one.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "net/http_types.h"
#include "security/certificate.h"

namespace llorch::colony {

class CallerCheck {
 public:
  /// Errors: kForbidden, with words that say what is missing.
  [[nodiscard]] Status operator()(const net::Request& request,
                                  security::CertificateTime now = security::now_in_seconds());

 private:
  [[nodiscard]] Status check_certificate(const std::shared_ptr<const std::string>& shown,
                                         security::CertificateTime now);

  std::weak_ptr<const std::string> last_;  // a queen's, that was read last: requests come over few connections
  security::CertificateTime last_until_;
};

}  // namespace llorch::colony
