#include "colony/caller.h"

#include "colony/address.h"

namespace llorch::colony {

Status CallerCheck::check_certificate(const std::shared_ptr<const std::string>& shown, security::CertificateTime now) {
  if (!shown)
    return fail(ErrorCode::kForbidden,
                "from another machine this daemon is opened by its queen alone, who shows her certificate: ask her, or "
                "ask on the daemon's own machine");
  if (last_.lock() != shown) {
    const auto facts = security::read_certificate_der(*shown);
    if (!facts || facts->daemon.kind != security::DaemonKind::kQueen || facts->daemon.id.empty())
      return fail(ErrorCode::kForbidden,
                  "from another machine this daemon is opened by its queen alone, and the certificate is no queen's");
    last_ = shown, last_until_ = facts->not_after;
  }
  if (last_until_ <= now) return fail(ErrorCode::kForbidden, "the queen's certificate has expired");
  return {};
}

Status CallerCheck::operator()(const net::Request& request, security::CertificateTime now) {
  Status by_certificate = check_certificate(request.certificate, now);
  if (by_certificate || is_own_address(request.peer)) return {};  // people there, and the hive's workers
  return by_certificate;
}

}  // namespace llorch::colony
