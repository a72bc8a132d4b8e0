#include "service/front.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "net/url.h"
#include "security/validate.h"
#include "service/log.h"

namespace llorch::service {

Status Front::open() {
  const FrontOptions& o = options_;
  if (o.tls_certificate.empty() != o.tls_key.empty())
    return fail(ErrorCode::kInvalidRequest, "--tls-cert and --tls-key go together");
  tls_ = std::make_unique<TlsFiles>(
      loop_, TlsPaths{o.tls_certificate, o.tls_key, o.colony_folder, o.callers_must_show, check_});
  LLORCH_OK(tls_->load());
  std::string warning;
  LLORCH_TRY(const auto token, security::find_operator_token(o.token_file, warning));
  if (!warning.empty()) log(Level::kWarn, "token_from_environment", warning);
  const bool loopback = security::is_loopback(o.listen);
  if (!net::is_ip_address(o.listen.substr(0, o.listen.find('%'))) && !loopback)
    return fail(ErrorCode::kInvalidRequest,
                "listen: '{}' is no address of this machine: 127.0.0.1 (this machine alone), 0.0.0.0 (all networks) or "
                "an address of one",
                security::sanitize(o.listen, 64));
  if (o.local_mode && (token || !o.keys_file.empty()))
    return fail(ErrorCode::kInvalidRequest, "--local-mode has no authentication: it cannot be combined with a token");
  if (o.local_mode && !loopback)
    return fail(
        ErrorCode::kInvalidRequest,
        "listening on {} needs a key: without one (--local-mode) a daemon listens on loopback only. Give a token "
        "of at least {} characters (LLORCH_API_TOKEN_FILE), or leave `listen` out",
        o.listen, security::kTokenBytesMin);
  if (!loopback && !token)
    return fail(ErrorCode::kInvalidRequest,
                "listening on {} needs a token of at least {} characters (LLORCH_API_TOKEN_FILE)", o.listen,
                security::kTokenBytesMin);
  LLORCH_OK(choose_scheme());
  if (token) {
    token_ = *token;
    authenticator_.add_token(*token, {Scope::kAdmin, Scope::kInfer, Scope::kMetrics, Scope::kNode});
  }
  if (!o.audit_log.empty()) {
    LLORCH_OK(open_audit());
  } else if (o.audit_required || !o.audit_key_file.empty()) {
    return fail(ErrorCode::kInvalidRequest, "--audit-required and --audit-key-file need --audit-log");
  }
  if (!o.keys_file.empty())
    LLORCH_OK(authenticator_.watch_keys_file(o.keys_file, [this](auto event, const auto& label, const auto& what) {
      log(Level::kInfo, event, fmt::format("{} {}", label, what));
      if (audit_) audit_->append({{"event_type", event}, {"actor", label}, {"detail", what}});
    }));
  if (const std::string_view trust = getenv("TRUST_PROXY_AUTH") ?: ""; trust == "1" || trust == "true") {
    if (!authenticator_.required())
      return fail(ErrorCode::kInvalidRequest,
                  "TRUST_PROXY_AUTH needs a token: without one everyone is admitted anyway");
    authenticator_.trust_proxy();
    log(Level::kWarn, "trusting_proxy", "X-Forwarded-User of peers on this machine is believed");
  }
  LLORCH_TRY(auto cors, CorsPolicy::make(o.cors_origins));
  router_ = std::make_unique<Router>(authenticator_, audit_.get(),
                                     RouterOptions{o.listen, o.allowed_hosts, std::move(cors), {}});
  if (o.audit_required) router_->require_audit([this](std::function<void()> work) { loop_.post(std::move(work)); });
  return {};
}

Status Front::open_audit() {
  security::AuditOptions audit{.flush = options_.audit_flush};
  if (!options_.audit_key_file.empty()) {
    LLORCH_TRY(audit.key, security::read_audit_key(options_.audit_key_file));
  }
  audit.on_state = [](const std::optional<Error>& problem) {
    if (problem)
      log(Level::kError, "audit_failed", problem->message);
    else
      log(Level::kWarn, "audit_resumed", "audit records are kept again");
  };
  LLORCH_TRY(audit_, security::AuditLog::open(options_.audit_log, service_id_, std::move(audit)));
  return {};
}

bool FrontOptions::wants_tls() const {
  return !tls_certificate.empty() || tls || (!security::is_loopback(listen) && !insecure_http);
}

Status Front::choose_scheme() {
  const FrontOptions& o = options_;
  if (o.tls && o.insecure_http) return fail(ErrorCode::kInvalidRequest, "--tls and --insecure-http exclude each other");
  if (!o.tls_certificate.empty() && o.insecure_http)
    return fail(ErrorCode::kInvalidRequest, "--tls-cert and --insecure-http exclude each other");
  secure_ = o.wants_tls();
  if (secure_ && !tls_->now().server)
    return fail(ErrorCode::kInvalidRequest,
                "listening on {} without TLS would show tokens, keys, prompts and answers to whoever listens on the "
                "network: give --tls-cert and --tls-key, or join a colony, or say --insecure-http",
                o.listen);
  if (!secure_ && !security::is_loopback(o.listen))
    log(Level::kWarn, "no_tls",
        "--insecure-http: tokens, keys, prompts and answers cross the network readable, and whoever is in the middle "
        "can change them");
  return {};
}

Status Front::bind() {
  net::ServerOptions server;
  server.address = options_.listen == "localhost" ? "127.0.0.1" : options_.listen;
  if (secure_) server.tls = tls_->now().server;
  server.body_bytes_max = options_.body_bytes_max;
  router_->set_body_bytes_max(options_.body_bytes_max);
  const auto handler = [this](net::Request r, const net::ExchangePtr& e) {
    loop_.doing(r.target.path);
    return router_->handle(std::move(r), e);
  };
  const auto refusal = [this](const Error& e) { return router_->refusal(e); };
  const int first = options_.port > 0 ? options_.port : options_.first_port;
  const int last = options_.port > 0 ? options_.port : options_.last_port;
  for (int port = first; port <= last; ++port) {
    server.port = static_cast<std::uint16_t>(port);
    auto made = net::HttpServer::make_by_head(loop_, server, handler, refusal);
    if (made) {
      server_ = *std::move(made);
      follow_tls();
      return {};
    }
    if (made.error().code != ErrorCode::kIo || first == last) return std::unexpected(std::move(made).error());
  }
  return fail(ErrorCode::kIo, "no port from {} to {} is free", first, last);
}

/// Certificates are replaced while the daemon runs: by their owner, or because they were renewed.
void Front::follow_tls() {
  loop_.set_tls_client(tls_->now().client);
  if (options_.tls_certificate.empty() && options_.colony_folder.empty()) return;
  std::chrono::milliseconds period = options_.tls_look_period;
  if (const auto& own = tls_->now().own)  // what lasts for seconds only is looked at more often
    period =
        std::clamp<std::chrono::milliseconds>((own->not_after - own->not_before) / 20, std::chrono::seconds(1), period);
  tls_->watch(
      period,
      [this] {
        loop_.set_tls_client(tls_->now().client);
        if (secure_ && server_) server_->set_tls(tls_->now().server);
        log(Level::kInfo, "certificates_read", "certificates have changed: connections from now on see the new ones");
      },
      [](const Error& problem) { log(Level::kError, "certificates_unreadable", problem.message); });
}

std::string base_url(const std::string& listen, int port, bool secure) {
  return fmt::format("{}://{}:{}", secure ? "https" : "http", listen.contains(':') ? "[" + listen + "]" : listen, port);
}

std::string Front::url() const { return base_url(options_.listen, port(), secure_); }

void Front::sign(net::Headers& headers) const {
  if (!token_.empty()) headers.add("Authorization", "Bearer " + token_);
}

}  // namespace llorch::service
