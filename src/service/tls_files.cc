#include "service/tls_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/open_file.h"
#include "security/keys.h"

namespace llorch::service {
namespace {

constexpr std::size_t kPemBytesMax = 64u << 10;
constexpr std::string_view kCertificateBegins = "-----BEGIN CERTIFICATE-----";

Result<std::string> text_of(const std::string& path, std::string_view flag) {
  auto text = read_text_file(path, kPemBytesMax);
  if (!text) return fail(ErrorCode::kInvalidRequest, "{}: {}", flag, text.error().message);
  return text;
}

/// What tells one state of a file from another; empty: there is none.
std::string state_of(const std::string& path) {
  const auto identity = FileIdentity::of(path);
  return identity ? identity->text() : "";
}

}  // namespace

std::function<bool(const std::string&, const std::string&)> accept_daemons(
    std::function<Status(const security::CertificateFacts&)> check) {
  return [check = std::move(check)](const std::string& certificate, const std::string& name) {
    if (!net::is_colony_name(name)) return true;
    const auto facts = security::read_certificate_der(certificate);
    return facts && !facts->daemon.id.empty() && facts->daemon.tls_name() == name && (!check || check(*facts));
  };
}

struct TlsFiles::Read {
  Loaded loaded;
  std::string state;
};

Result<TlsFiles::Read> TlsFiles::read(const TlsPaths& paths) {
  Read r;
  net::TlsServer::Options server;
  net::TlsClient::Options client;
  const std::string own = paths.colony + "/own.pem", root = paths.colony + "/root.pem";
  for (const std::string& path : {paths.people_certificate, paths.people_key, own, root})
    r.state += state_of(path) + ";";  // before they are read: a change meanwhile is seen at the next look
  if (!paths.people_certificate.empty()) {
    LLORCH_TRY(server.people.chain, text_of(paths.people_certificate, "--tls-cert"));
    LLORCH_TRY(server.people.private_key, text_of(paths.people_key, "--tls-key"));
  }
  if (!paths.colony.empty() && access(own.c_str(), F_OK) == 0) {
    LLORCH_TRY(const std::string both, security::read_secret_file(own));
    const std::size_t chain = both.find(kCertificateBegins);
    if (chain == std::string::npos) return fail(ErrorCode::kInvalidRequest, "{}: there is no certificate in it", own);
    server.colony = {both.substr(chain) + "\n", both.substr(0, chain)};
    LLORCH_TRY(r.loaded.own, security::read_certificate(server.colony.chain));
    client.own = server.colony;
    server.callers_must_show = paths.callers_must_show;
    r.loaded.root = root_of(server.colony.chain);
  }
  if (!paths.colony.empty() && access(root.c_str(), F_OK) == 0) {
    LLORCH_TRY(r.loaded.root, security::read_secret_file(root));
  }
  server.authorities = client.authorities = r.loaded.root;
  client.accepts = accept_daemons(paths.check);
  if (!server.people.empty() || !server.colony.empty()) {
    auto made = net::TlsServer::make(server);
    if (!made && !paths.people_certificate.empty())
      return std::unexpected(std::move(made).error().in(
          fmt::format("--tls-cert {}, --tls-key {}", paths.people_certificate, paths.people_key)));
    if (!made) return std::unexpected(std::move(made).error());
    r.loaded.server = *std::move(made);
  }
  if (!client.authorities.empty()) {
    LLORCH_TRY(r.loaded.client, net::TlsClient::make(client));
  }
  return r;
}

Status TlsFiles::load() {
  LLORCH_TRY(Read r, read(paths_));
  now_ = std::move(r.loaded), state_ = std::move(r.state);
  return {};
}

void TlsFiles::watch(std::chrono::milliseconds period, std::function<void()> changed,
                     std::function<void(const Error&)> on_problem) {
  period_ = period, changed_ = std::move(changed), on_problem_ = std::move(on_problem);
  if (!background_) background_ = std::make_unique<Background>(loop_);
  timer_ = loop_.after(period_, [this] { look(); });
}

void TlsFiles::look_now() {
  // A look that is under way may have read the files before: another one follows at once.
  if (changed_) timer_ = loop_.after(std::chrono::milliseconds(looking_ ? 100 : 0), [this] { look(); });
}

void TlsFiles::look() {
  if (looking_) return look_now();
  looking_ = true;
  const auto result = std::make_shared<Result<Read>>(std::in_place);
  background_->run([result, paths = paths_] { *result = read(paths); },
                   [this, result](const Status& done) {
                     looking_ = false;
                     timer_ = loop_.after(period_, [this] { look(); });
                     if (!done) return on_problem_(done.error());
                     // What cannot be read now may be half written: it is told once it stays so.
                     if (!*result) return on_problem_(result->error());
                     if ((*result)->state == state_) return;
                     now_ = std::move((*result)->loaded), state_ = std::move((*result)->state);
                     changed_();
                   });
}

Status TlsFiles::store(const std::string& folder, const security::DaemonIdentity& identity, const std::string& root) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return fail(ErrorCode::kIo, "cannot make {}", folder);
  LLORCH_OK(security::write_secret_file(folder + "/root.pem", root));
  return security::write_secret_file(folder + "/own.pem", identity.private_key + identity.chain);
}

std::string TlsFiles::root_of(const std::string& chain) {
  const std::size_t last = chain.rfind(kCertificateBegins);
  return last == std::string::npos ? "" : chain.substr(last);
}

}  // namespace llorch::service
