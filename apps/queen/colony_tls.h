// The queen's side of TLS: the colony's authority, her own certificate, and those of hives.
//
// The authority is made at the first start beyond this machine, in ca/ of the data directory; her own certificate lies
// in tls/, where the front reads it (service/tls_files.h). Files are written on a thread of their own. Threads: the
// event loop's, but open().
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "net/event_loop.h"
#include "security/authority.h"
#include "service/background.h"

namespace llorch::queen {

class ColonyTls {
 public:
  struct Options {
    std::string data_dir, queen_id;
    std::vector<std::string> names;  // by which people call this queen, besides those of her machine
    std::chrono::seconds certificate_lifetime{std::chrono::days(30)};
  };
  ColonyTls(net::EventLoop& loop, Options options) : loop_(loop), options_(std::move(options)) {}

  /// Opens or makes the authority, and her own certificate where there is none that lasts. Blocks. Errors: those of
  /// security::Authority.
  [[nodiscard]] Status open();
  /// Renews her own certificate from now on, when two thirds of its life are over; `renewed` when it is on disk.
  void keep_renewed(std::function<void()> renewed);
  [[nodiscard]] bool opened() const { return authority_ != nullptr; }
  [[nodiscard]] const security::Authority& authority() const { return *authority_; }
  [[nodiscard]] std::string folder() const { return options_.data_dir + "/tls"; }

  using Signed = std::function<void(Result<std::string> chain)>;
  /// The hive joins: it counts as revoked no longer, and its old certificates stay so. Blocks.
  [[nodiscard]] Status readmit(const std::string& hive_id) const;
  /// Its certificates were revoked, and it has not joined again.
  [[nodiscard]] bool is_revoked(const std::string& hive_id) const;
  /// A certificate for a hive that holds the request's key and is called by `hosts`. Errors: also kQueueFull while
  /// another one is made for this hive.
  void sign(std::string request, const std::string& hive_id, std::vector<std::string> hosts, Signed then);
  /// Whether a certificate (in DER) is the hive's and good. Errors: kForbidden, with words that say why not.
  [[nodiscard]] Status check(const std::string& certificate, const std::string& hive_id) const;
  /// Whether a certificate (in DER) names the hive, good or not.
  [[nodiscard]] static bool is_of(const std::string& certificate, const std::string& hive_id);
  /// Lays the root into the data directory of a hive on this machine: it believes this queen then.
  [[nodiscard]] Status trust_in(const std::string& hive_data_dir) const;
  /// The hive's certificates are good no longer; `then` when that is on disk.
  void revoke(const std::string& hive_id, std::function<void(Status)> then);

 private:
  [[nodiscard]] Status make_own();
  void wait_for_renewal();
  void renew();

  net::EventLoop& loop_;
  Options options_;
  std::shared_ptr<security::Authority> authority_;
  security::CertificateTime renewal_;
  std::function<void()> renewed_;
  net::EventLoop::Timer timer_;
  std::set<std::string> signing_;  // hives
  // Last: their work uses what is above. Who floods the one with requests does not hold up his own revocation.
  std::unique_ptr<service::Background> background_, revoking_;
};

/// What a hive is called in TLS.
[[nodiscard]] inline std::string hive_tls_name(const std::string& hive_id) {
  return security::DaemonName{security::DaemonKind::kHive, hive_id}.tls_name();
}
/// Addresses and names by which this machine is reached: its interfaces' addresses, its name, `more`.
[[nodiscard]] std::vector<std::string> own_hosts(const std::vector<std::string>& more);

}  // namespace llorch::queen
