// A colony's certificate authority, in a folder of files: the root, which may be taken away, and the queen's own
// intermediate, which signs daemons' certificates (S-02, FLEET 1).
//
// root.pem and root.key, issuer.pem and issuer.key, and revoked: a line for each daemon some of whose certificates are
// refused though they have not ended ("<URI> <seconds since 1970>": those that begin by then). All are of mode 0600 in
// a folder of mode 0700. Whoever has root.key can speak as any daemon: it may lie elsewhere, as long as the issuer is
// valid. Threads: one at a time; blocks. Errors: kIo; kInvalidRequest naming the file that cannot be used.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "security/certificate.h"

namespace llorch::security {

/// A daemon's key and certificate, with those that lead to the root (itself included).
struct DaemonIdentity {
  std::string private_key, chain;
};

class Authority {
 public:
  struct Options {
    std::string queen_id;
    std::chrono::seconds root_lifetime{std::chrono::years(10)}, issuer_lifetime{std::chrono::years(1)},
        daemon_lifetime{std::chrono::days(30)};
    std::function<CertificateTime()> clock;  // empty: the system's
    bool read_only = false;                  // nothing is made or written
  };
  /// Opens the folder's authority; makes root and issuer where there are none. An issuer that has less than a third of
  /// its life before it is made anew, where the root's key is there; where it is not, one that has ended is an error.
  [[nodiscard]] static Result<Authority> open(const std::string& folder, Options options);

  [[nodiscard]] const std::string& root() const { return root_.certificate; }
  /// SHA-256 of the root, 64 hex digits: what a join token carries.
  [[nodiscard]] const std::string& fingerprint() const { return fingerprint_; }
  [[nodiscard]] bool has_root_key() const { return !root_.private_key.empty(); }
  [[nodiscard]] const std::string& issuer() const { return issuer_.certificate; }

  /// A certificate for whoever holds the request's key, with those that lead to the root. A daemon may be called by
  /// `hosts`, and always by its name inside the colony.
  [[nodiscard]] Result<std::string> sign(std::string_view request, const DaemonName& daemon,
                                         const std::vector<std::string>& hosts) const;
  /// The same for a daemon of our own process.
  [[nodiscard]] Result<DaemonIdentity> make_identity(const DaemonName& daemon,
                                                     const std::vector<std::string>& hosts) const;

  /// Makes the issuer anew where open() would.
  [[nodiscard]] Status renew_issuer();

  /// Certificates of the daemon that were made until now are refused from now on.
  [[nodiscard]] Status revoke(const DaemonName& daemon);
  /// Errors: kForbidden, with words that say why: revoked, or what check_chain() says.
  [[nodiscard]] Status check(const CertificateFacts& facts) const;
  struct Revocation {
    std::string daemon;         // its URI
    CertificateTime at;         // certificates that begin by then are refused
    bool joined_again = false;  // it has got another since
  };
  [[nodiscard]] std::vector<Revocation> revocations() const;
  /// Whether the daemon's certificates were revoked, and it has not joined again.
  [[nodiscard]] bool is_revoked(const DaemonName& daemon) const;
  /// A daemon whose certificates were revoked joins again: what is said of it changes, and old certificates open
  /// nothing as before.
  [[nodiscard]] Status readmit(const DaemonName& daemon);

  /// Root and its key as one text, for a second queen or a safe place. Errors: kInvalidRequest without the key.
  [[nodiscard]] Result<std::string> export_root() const;
  /// Puts an exported root into a folder that has none yet.
  [[nodiscard]] static Status import_root(const std::string& folder, std::string_view exported);

 private:
  [[nodiscard]] CertificateTime now() const;
  [[nodiscard]] std::optional<CertificateTime> revoked_at(const DaemonName& daemon) const;
  [[nodiscard]] Status read_revocations();
  /// The file's lines; under locks_->revoked.
  [[nodiscard]] std::string revocations_text() const;

  std::string folder_, fingerprint_;
  Options options_;
  Signer root_, issuer_;
  struct Revoked {
    CertificateTime at;
    bool joined_again = false;
  };
  std::map<std::string, Revoked> revoked_;  // by URI; under locks_->revoked
  struct Locks {
    std::mutex revoked, writing;
  };
  std::unique_ptr<Locks> locks_ = std::make_unique<Locks>();
};

/// Two thirds of a certificate's life: when the next one is asked for.
[[nodiscard]] CertificateTime renewal_time(const CertificateFacts& facts);

}  // namespace llorch::security
