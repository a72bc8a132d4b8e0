#include "service/plain_http.h"

#include "security/auth.h"

namespace llorch::service {

Status check_plain_http(const net::Url& url, bool insecure) {
  if (url.tls || insecure || security::is_loopback(url.host)) return {};
  return fail(ErrorCode::kInvalidRequest,
              "http:// to {} would show keys, prompts and answers to whoever listens on the network: give its https:// "
              "address, or --insecure-http where the network is all yours",
              url.host);
}

}  // namespace llorch::service
