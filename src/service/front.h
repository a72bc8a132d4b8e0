// A daemon's face to the network: who may listen where, keys, audit log, router and HTTP server (S-01, S-02).
//
// open() checks the options and makes the router; routes are declared; bind() begins to serve. Threads: the event
// loop's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "net/http_client.h"
#include "net/http_server.h"
#include "security/audit.h"
#include "security/auth.h"
#include "service/router.h"
#include "service/tls_files.h"

namespace llorch::service {

struct FrontOptions {
  std::string listen = "127.0.0.1", token_file, keys_file, tls_certificate, tls_key, audit_log, log_format,
              log_level = "info";
  security::AuditFlush audit_flush = security::AuditFlush::kImmediate;
  std::string audit_key_file;   // of a keyed audit log
  bool audit_required = false;  // what cannot be written down is not done
  int port = 0;                 // 0: the first free one of the range
  int first_port = 8601, last_port = 8999;
  std::string colony_folder;       // the daemon's certificate in its colony: see tls_files.h; empty: none
  bool callers_must_show = false;  // see tls_files.h
  std::chrono::milliseconds tls_look_period{10'000};
  bool insecure_http = false;  // plain HTTP beyond this machine
  bool tls = false;            // TLS on loopback, too
  bool local_mode = false;     // loopback, no authentication
  std::vector<std::string> allowed_hosts, cors_origins;
  std::size_t body_bytes_max = 8u << 20;

  /// Beyond this machine, unless --insecure-http; with a certificate or --tls everywhere.
  [[nodiscard]] bool wants_tls() const;
};

/// http[s]://listen:port; an IPv6 address in brackets.
[[nodiscard]] std::string base_url(const std::string& listen, int port, bool secure = false);

class Front {
 public:
  Front(net::EventLoop& loop, FrontOptions options, std::string service_id)
      : loop_(loop), options_(std::move(options)), service_id_(std::move(service_id)) {}

  /// Errors: kInvalidRequest for options that contradict each other or would serve strangers; those of secrets and
  /// the audit log.
  [[nodiscard]] Status open();
  /// The daemon's certificate lies there: before open().
  /// `check`: see TlsPaths.
  void use_colony_folder(std::string folder, std::function<Status(const security::CertificateFacts&)> check = {}) {
    options_.colony_folder = std::move(folder), check_ = std::move(check);
  }
  /// Errors: kIo when no port is free.
  [[nodiscard]] Status bind();
  [[nodiscard]] Router& router() { return *router_; }
  [[nodiscard]] net::HttpServer& server() { return *server_; }
  [[nodiscard]] security::Authenticator& keys() { return authenticator_; }
  [[nodiscard]] security::AuditLog* audit() { return audit_.get(); }
  [[nodiscard]] int port() const { return server_->port(); }
  /// http(s)://address:port, as others on the same network reach it.
  [[nodiscard]] std::string url() const;
  /// What this daemon shows of itself to others of its colony: the operator's token, where there is one.
  void sign(net::Headers& headers) const;
  [[nodiscard]] bool secure() const { return secure_; }
  [[nodiscard]] const TlsFiles& tls() const { return *tls_; }
  /// Certificates have just been written: they are read now instead of at the next look.
  void read_certificates() { tls_->look_now(); }
  [[nodiscard]] bool has_token() const { return !token_.empty(); }
  [[nodiscard]] const std::string& token() const { return token_; }
  void close() { server_.reset(); }

 private:
  [[nodiscard]] Status open_audit();
  [[nodiscard]] Status choose_scheme();
  void follow_tls();
  net::EventLoop& loop_;
  FrontOptions options_;
  std::function<Status(const security::CertificateFacts&)> check_;
  std::string service_id_, token_;
  bool secure_ = false;  // serves TLS
  security::Authenticator authenticator_;
  std::unique_ptr<security::AuditLog> audit_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<TlsFiles> tls_;
  std::unique_ptr<net::HttpServer> server_;
};

}  // namespace llorch::service
