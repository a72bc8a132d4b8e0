// X.509 certificates of a colony: keys, requests, what a certificate says, and how one is checked. By OpenSSL.
//
// A daemon is named by a URI among its alternative names, "llorch:hive:<id>" or "llorch:queen:<id>"; addresses and host
// names stand beside it, so that any TLS client can check where it is connected to. Keys are ECDSA on P-256. All texts
// are PEM. Threads: any. Errors: kInvalidRequest for what cannot be read; kInternal when OpenSSL has no more to give.
// Source: RFC 5280, RFC 2986.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace llorch::security {

using CertificateTime = std::chrono::sys_seconds;
/// The wall clock, as certificates tell time.
[[nodiscard]] inline CertificateTime now_in_seconds() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

enum class DaemonKind { kQueen, kHive };
struct DaemonName {
  DaemonKind kind = DaemonKind::kHive;
  std::string id;
  bool operator==(const DaemonName&) const = default;
  /// "llorch:hive:<id>".
  [[nodiscard]] std::string uri() const;
  /// What it is called in TLS: "<id>.hive.llorch.internal"; all queens are "queen.llorch.internal". No two hives have
  /// one name, though names of hosts know no upper case.
  [[nodiscard]] std::string tls_name() const;
};

/// What every queen is called in TLS.
[[nodiscard]] inline std::string queen_tls_name() { return DaemonName{DaemonKind::kQueen, ""}.tls_name(); }

struct CertificateFacts {
  std::string subject, issuer;  // as one line: "CN=llorch:hive:mac"
  std::string serial;           // hex digits
  std::string fingerprint;      // SHA-256 of the whole, 64 hex digits
  DaemonName daemon;            // an empty id: of nobody in a colony
  std::vector<std::string> hosts;
  CertificateTime not_before, not_after;
  bool authority = false;
};

/// A fresh private key.
[[nodiscard]] Result<std::string> make_private_key();
/// Asks for a certificate over the key (PKCS #10). Names are the signer's to choose.
[[nodiscard]] Result<std::string> make_certificate_request(const std::string& private_key);
/// The first certificate of a text.
[[nodiscard]] Result<CertificateFacts> read_certificate(std::string_view text);
[[nodiscard]] Result<CertificateFacts> read_certificate_der(std::string_view bytes);
/// Whether the key belongs to the text's first certificate.
[[nodiscard]] Status check_pair(std::string_view certificate, std::string_view private_key);

/// Makes certificates. `issuer`: the signer's certificate and key.
struct Signer {
  std::string certificate, private_key;
};
struct AuthoritySubject {
  std::string name;
  int path_length = 0;  // how many authorities may follow below
};
/// An authority that signs itself.
[[nodiscard]] Result<Signer> make_root(const AuthoritySubject& subject, CertificateTime from, CertificateTime until);
/// An authority below another one.
[[nodiscard]] Result<Signer> make_intermediate(const Signer& issuer, const AuthoritySubject& subject,
                                               CertificateTime from, CertificateTime until);
/// A daemon's certificate for whoever holds the key of `request`, whose signature is checked; nothing else of it is
/// believed. `hosts`: addresses and names. Errors: also for a host that is neither.
[[nodiscard]] Result<std::string> sign_daemon(const Signer& issuer, std::string_view request, const DaemonName& daemon,
                                              const std::vector<std::string>& hosts, CertificateTime from,
                                              CertificateTime until);

/// Whether an authority's certificate is signed by the root; its dates are not looked at.
[[nodiscard]] bool check_issuer(const std::string& issuer, const std::string& root);
/// Whether it is a request that sign_daemon() takes: of a key on P-256, which has signed it. Errors: kInvalidRequest.
[[nodiscard]] Status check_certificate_request(std::string_view request);

/// Follows `chain` (the daemon's certificate, then authorities) to `root`. Errors: kForbidden, with words that say
/// what is wrong: expired, not yet valid, of another authority, signed by itself, no daemon's.
[[nodiscard]] Result<CertificateFacts> check_chain(std::string_view chain, std::string_view root, CertificateTime now);

}  // namespace llorch::security
