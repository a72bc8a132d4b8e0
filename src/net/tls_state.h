// For the files of this module only: OpenSSL's objects behind TlsServer and TlsClient.
#pragma once

#include <openssl/ssl.h>

#include <boost/asio/ssl/context.hpp>

#include "net/tls.h"

namespace llorch::net {

struct TlsServer::State {
  boost::asio::ssl::context people{boost::asio::ssl::context::tls_server};
  boost::asio::ssl::context colony{boost::asio::ssl::context::tls_server};
  bool has_colony = false, callers_must_show = false;
};

/// Gives a context of curl's what the client (null: nobody in particular) shows and believes; without a list of its own
/// it believes whom the system does. `name`: whom it calls. False: OpenSSL has refused.
[[nodiscard]] bool apply(const std::shared_ptr<const TlsClient>& client, const std::string& name, SSL_CTX* context);
[[nodiscard]] bool has_own_authorities(const TlsClient* client);
/// Whom the system believes: read once in a process, which takes 20 ms. Any thread.
void read_system_authorities();
[[nodiscard]] bool system_authorities_were_read();
/// The certificate that the other side has shown, in DER; empty: none.
[[nodiscard]] std::string peer_certificate(const SSL* connection);

}  // namespace llorch::net
