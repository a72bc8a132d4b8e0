#include "security/authority.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <sstream>

#include "base/colony_name.h"
#include "base/ids.h"
#include "security/keys.h"

namespace llorch::security {
namespace {

/// Clocks of a colony's machines differ: a certificate begins so long before it was made.
constexpr std::chrono::minutes kClockSlack{10};
constexpr std::chrono::seconds kShortestSlack{1};

bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

Status make_folder(const std::string& folder) {
  std::error_code problem;
  std::filesystem::create_directories(std::filesystem::path(folder).parent_path(), problem);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return fail(ErrorCode::kIo, "cannot make {}", folder);
  return {};
}

Result<Signer> read_signer(const std::string& folder, const std::string& name, bool key_needed) {
  Signer s;
  LLORCH_TRY(s.certificate, read_secret_file(folder + "/" + name + ".pem"));
  s.certificate += '\n';
  const std::string key = folder + "/" + name + ".key";
  if (key_needed || exists(key)) {
    LLORCH_TRY(s.private_key, read_secret_file(key));
    s.private_key += '\n';
    if (const Status pair = check_pair(s.certificate, s.private_key); !pair)
      return fail(ErrorCode::kInvalidRequest, "{}: {}", key, pair.error().message);
  }
  return s;
}
Status write_signer(const std::string& folder, const std::string& name, const Signer& s) {
  LLORCH_OK(write_secret_file(folder + "/" + name + ".key", s.private_key));
  return write_secret_file(folder + "/" + name + ".pem", s.certificate);
}

/// A certificate lasts a year at the most, by the queen's flag.
constexpr std::chrono::days kRevocationsKept{400};

/// "llorch.internal", anything below it, however it is written.
bool in_colony_domain(std::string host) {
  while (host.ends_with('.')) host.pop_back();
  std::ranges::transform(host, host.begin(), [](unsigned char c) { return std::tolower(c); });
  return ("." + host).ends_with(kColonyDomain);
}

}  // namespace

CertificateTime renewal_time(const CertificateFacts& f) { return f.not_before + (f.not_after - f.not_before) / 3 * 2; }

CertificateTime Authority::now() const { return options_.clock ? options_.clock() : now_in_seconds(); }

Result<Authority> Authority::open(const std::string& folder, Options options) {
  Authority a;
  a.folder_ = folder, a.options_ = std::move(options);
  LLORCH_OK(make_folder(folder));
  if (!exists(folder + "/root.pem")) {
    for (const char* other : {"root.key", "issuer.pem", "issuer.key"})
      if (exists(folder + "/" + other))
        return fail(
            ErrorCode::kInvalidRequest,
            "{}/root.pem is missing, and {} is there: bring it back (each hive has it as tls/root.pem), or take "
            "the folder away to begin a colony anew",
            folder, other);
    if (a.options_.read_only) return fail(ErrorCode::kNotFound, "there is no authority in {}", folder);
    // The number tells colonies apart where a person sees several.
    LLORCH_TRY(a.root_, make_root({"llama-orch colony " + random_hex(4), 1}, a.now() - kClockSlack,
                                  a.now() + a.options_.root_lifetime));
    LLORCH_OK(write_signer(folder, "root", a.root_));
  } else {
    LLORCH_TRY(a.root_, read_signer(folder, "root", false));
  }
  LLORCH_TRY(const CertificateFacts root, read_certificate(a.root_.certificate));
  a.fingerprint_ = root.fingerprint;
  if (exists(folder + "/issuer.pem")) {
    LLORCH_TRY(a.issuer_, read_signer(folder, "issuer", true));
  }
  if (!a.options_.read_only) LLORCH_OK(a.renew_issuer());
  LLORCH_OK(a.read_revocations());
  return a;
}

Status Authority::renew_issuer() {
  const std::lock_guard writing(locks_->writing);
  if (!issuer_.certificate.empty()) {
    LLORCH_TRY(const CertificateFacts facts, read_certificate(issuer_.certificate));
    const bool ours = check_issuer(issuer_.certificate, root_.certificate);
    if (ours && (now() < renewal_time(facts) || (!has_root_key() && now() < facts.not_after))) return {};
    if (!ours && !has_root_key())
      return fail(ErrorCode::kInvalidRequest, "{}/issuer.pem is of another root than root.pem beside it", folder_);
  }
  if (!has_root_key())
    return fail(ErrorCode::kInvalidRequest,
                "{}/issuer.pem has ended or is missing, and root.key, which could make another, is not there", folder_);
  LLORCH_TRY(const CertificateFacts root, read_certificate(root_.certificate));
  LLORCH_TRY(issuer_, make_intermediate(root_, {"llama-orch queen " + options_.queen_id, 0}, now() - kClockSlack,
                                        std::min(now() + options_.issuer_lifetime, root.not_after)));
  return write_signer(folder_, "issuer", issuer_);
}

Result<std::string> Authority::sign(std::string_view request, const DaemonName& daemon,
                                    const std::vector<std::string>& hosts) const {
  std::vector<std::string> all{daemon.tls_name()};
  for (const std::string& host : hosts) {
    if (in_colony_domain(host))
      return fail(ErrorCode::kForbidden, "'{}' is a name inside the colony, which only its daemon has", host);
    all.push_back(host);
  }
  // Signing takes long: neither a revocation nor a renewal waits for it.
  Signer signer;
  {
    const std::lock_guard writing(locks_->writing);
    signer = issuer_;
  }
  LLORCH_TRY(const CertificateFacts issuer, read_certificate(signer.certificate));
  // Not longer than those that vouch for it.
  const CertificateTime until = std::min(now() + options_.daemon_lifetime, issuer.not_after);
  if (until <= now()) return fail(ErrorCode::kInvalidRequest, "{}/issuer.pem has ended", folder_);
  CertificateTime from = now() - std::clamp<std::chrono::seconds>((until - now()) / 4, kShortestSlack, kClockSlack);
  // Certificates that were made until a revocation are told from those made after it by the time they begin.
  if (const auto revoked = revoked_at(daemon)) from = std::max(from, *revoked + kShortestSlack);
  LLORCH_TRY(std::string made, sign_daemon(signer, request, daemon, all, from, until));
  return made + signer.certificate + root_.certificate;
}

Result<DaemonIdentity> Authority::make_identity(const DaemonName& daemon, const std::vector<std::string>& hosts) const {
  DaemonIdentity made;
  LLORCH_TRY(made.private_key, make_private_key());
  LLORCH_TRY(const std::string request, make_certificate_request(made.private_key));
  LLORCH_TRY(made.chain, sign(request, daemon, hosts));
  return made;
}

Status Authority::revoke(const DaemonName& daemon) {
  const std::lock_guard writing(locks_->writing);
  std::string text;
  {
    const std::lock_guard lock(locks_->revoked);
    // What was made until now begins by then, and what is made from now on may begin later and be good at once.
    const auto [entry, first] = revoked_.try_emplace(daemon.uri(), Revoked{now() - kShortestSlack});
    if (!first) entry->second = {std::max(now() - kShortestSlack, entry->second.at + kShortestSlack)};
    std::erase_if(revoked_, [&](const auto& old) { return old.second.at + kRevocationsKept < now(); });
    text = revocations_text();
  }
  return write_secret_file(folder_ + "/revoked", text);
}

Status Authority::readmit(const DaemonName& daemon) {
  const std::lock_guard writing(locks_->writing);
  std::string text;
  {
    const std::lock_guard lock(locks_->revoked);
    const auto it = revoked_.find(daemon.uri());
    if (it == revoked_.end()) return {};
    it->second.joined_again = true;
    text = revocations_text();
  }
  return write_secret_file(folder_ + "/revoked", text);
}

std::string Authority::revocations_text() const {
  std::string text;
  for (const auto& [uri, r] : revoked_)
    text += fmt::format("{} {}{}\n", uri, r.at.time_since_epoch().count(), r.joined_again ? " again" : "");
  return text;
}

Status Authority::read_revocations() {
  const std::string path = folder_ + "/revoked";
  if (!exists(path)) return {};
  LLORCH_TRY(const std::string text, read_secret_file(path));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t blank = line.find(' ');
    std::int64_t seconds = 0;
    const char* end = line.data() + line.size();
    const auto read = blank == std::string::npos ? std::from_chars_result{line.data(), std::errc::invalid_argument}
                                                 : std::from_chars(line.data() + blank + 1, end, seconds);
    const std::string_view rest(read.ptr, static_cast<std::size_t>(end - read.ptr));
    if (read.ec != std::errc() || (!rest.empty() && rest != " again"))
      return fail(ErrorCode::kInvalidRequest, "{}: a line is not '<URI> <seconds> [again]'", path);
    revoked_[line.substr(0, blank)] = {CertificateTime(std::chrono::seconds(seconds)), !rest.empty()};
  }
  return {};
}

Status Authority::check(const CertificateFacts& facts) const {
  if (facts.daemon.id.empty()) return fail(ErrorCode::kForbidden, "the certificate is no daemon's");
  if (const auto revoked = revoked_at(facts.daemon); revoked && facts.not_before <= *revoked)
    return fail(ErrorCode::kForbidden, "the certificate of {} was revoked", facts.daemon.uri());
  if (facts.not_after < now()) return fail(ErrorCode::kForbidden, "the certificate has expired");
  return {};
}

std::optional<CertificateTime> Authority::revoked_at(const DaemonName& daemon) const {
  const std::lock_guard lock(locks_->revoked);
  const auto it = revoked_.find(daemon.uri());
  return it == revoked_.end() ? std::nullopt : std::optional(it->second.at);
}

bool Authority::is_revoked(const DaemonName& daemon) const {
  const std::lock_guard lock(locks_->revoked);
  const auto it = revoked_.find(daemon.uri());
  return it != revoked_.end() && !it->second.joined_again;
}

std::vector<Authority::Revocation> Authority::revocations() const {
  const std::lock_guard lock(locks_->revoked);
  std::vector<Revocation> all;
  for (const auto& [uri, r] : revoked_)
    if (r.at + kRevocationsKept >= now()) all.push_back({uri, r.at, r.joined_again});
  return all;
}

Result<std::string> Authority::export_root() const {
  if (!has_root_key())
    return fail(ErrorCode::kInvalidRequest, "root.key is not in {}: it cannot be exported from here", folder_);
  return root_.certificate + root_.private_key;
}

Status Authority::import_root(const std::string& folder, std::string_view exported) {
  LLORCH_OK(make_folder(folder));
  if (exists(folder + "/root.pem"))
    return fail(ErrorCode::kResourceInUse, "{} has a root already: daemons believe that one", folder);
  const std::size_t end = exported.find("-----BEGIN PRIVATE KEY-----");
  const Signer root{std::string(exported.substr(0, end)),
                    end == std::string_view::npos ? "" : std::string(exported.substr(end))};
  const auto facts = read_certificate(root.certificate);
  if (!facts || !facts->authority || !check_pair(root.certificate, root.private_key))
    return fail(ErrorCode::kInvalidRequest, "this is no exported root: a certificate and its key are needed");
  return write_signer(folder, "root", root);
}

}  // namespace llorch::security
