#include "queen/colony_tls.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "queen/host_names.h"
#include "security/keys.h"
#include "service/log.h"
#include "service/process.h"
#include "service/tls_files.h"

namespace llorch::queen {
namespace {

using security::DaemonKind;

/// When nothing is to be renewed sooner.
constexpr std::chrono::hours kLookAgain{1};

using security::now_in_seconds;

std::string address_of(const sockaddr* a) {
  char text[INET6_ADDRSTRLEN] = {};
  if (a->sa_family == AF_INET)
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(a)->sin_addr, text, sizeof text);
  if (a->sa_family == AF_INET6)
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr, text, sizeof text);
  return text;
}

}  // namespace

std::vector<std::string> own_hosts(const std::vector<std::string>& more) {
  std::vector<std::string> all{"localhost", service::host_name()};
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) == 0) {
    for (const ifaddrs* i = list; i; i = i->ifa_next)
      if (i->ifa_addr && (i->ifa_flags & IFF_UP) != 0) all.push_back(address_of(i->ifa_addr));
    freeifaddrs(list);
  }
  all.insert(all.end(), more.begin(), more.end());
  // Link-local addresses need a zone, which no certificate names.
  std::erase_if(all, [](const std::string& host) { return host.empty() || host.starts_with("fe80:"); });
  std::ranges::sort(all);
  const auto [first, last] = std::ranges::unique(all);
  all.erase(first, last);
  return all;
}

Status ColonyTls::open() {
  LLORCH_TRY(security::Authority authority,
             security::Authority::open(options_.data_dir + "/ca", {.queen_id = options_.queen_id,
                                                                   .daemon_lifetime = options_.certificate_lifetime}));
  authority_ = std::make_shared<security::Authority>(std::move(authority));
  LLORCH_OK(make_own());
  background_ = std::make_unique<service::Background>(loop_);
  revoking_ = std::make_unique<service::Background>(loop_);
  return {};
}

Status ColonyTls::make_own() {
  LLORCH_OK(authority_->renew_issuer());
  LLORCH_TRY(const auto own, authority_->make_identity({DaemonKind::kQueen, options_.queen_id},
                                                       certified_hosts(own_hosts(options_.names))));
  LLORCH_TRY(const auto facts, security::read_certificate(own.chain));
  renewal_ = security::renewal_time(facts);
  return service::TlsFiles::store(folder(), own, authority_->root());
}

void ColonyTls::keep_renewed(std::function<void()> renewed) {
  renewed_ = std::move(renewed);
  wait_for_renewal();
}

void ColonyTls::wait_for_renewal() {
  const auto wait = std::clamp<std::chrono::seconds>(renewal_ - now_in_seconds(), std::chrono::seconds(1), kLookAgain);
  timer_ = loop_.after(wait, [this] {
    if (now_in_seconds() < renewal_) return wait_for_renewal();
    renew();
  });
}

void ColonyTls::renew() {
  const auto made = std::make_shared<Status>();
  background_->run([this, made] { *made = make_own(); },
                   [this, made](const Status& done) {
                     if (const Status& outcome = done ? *made : done; !outcome) {
                       service::log(service::Level::kError, "certificate_not_renewed", outcome.error().message);
                       timer_ = loop_.after(std::chrono::minutes(1), [this] { wait_for_renewal(); });
                       return;
                     }
                     service::log(service::Level::kInfo, "certificate_renewed", "the queen's own certificate");
                     renewed_();
                     wait_for_renewal();
                   });
}

void ColonyTls::sign(std::string request, const std::string& hive_id, std::vector<std::string> hosts, Signed then) {
  if (!signing_.insert(hive_id).second)
    return then(fail(ErrorCode::kQueueFull, "another certificate for {} is being made", hive_id));
  const auto chain = std::make_shared<Result<std::string>>();
  background_->run(
      [authority = authority_, chain, request = std::move(request), hive_id, hosts = std::move(hosts)] {
        *chain = authority->sign(request, {DaemonKind::kHive, hive_id}, hosts);
      },
      [this, chain, hive_id, then = std::move(then)](const Status& done) {
        signing_.erase(hive_id);
        then(done ? std::move(*chain) : Result<std::string>(std::unexpected(done.error())));
      });
}

Status ColonyTls::readmit(const std::string& hive_id) const {
  return authority_ ? authority_->readmit({DaemonKind::kHive, hive_id}) : Status();
}

bool ColonyTls::is_revoked(const std::string& hive_id) const {
  return authority_ && authority_->is_revoked({DaemonKind::kHive, hive_id});
}

Status ColonyTls::check(const std::string& certificate, const std::string& hive_id) const {
  LLORCH_TRY(const auto facts, security::read_certificate_der(certificate));
  LLORCH_OK(authority_->check(facts));
  if (facts.daemon == security::DaemonName{DaemonKind::kHive, hive_id}) return {};
  return fail(ErrorCode::kForbidden, "the certificate is not this hive's");
}

bool ColonyTls::is_of(const std::string& certificate, const std::string& hive_id) {
  const auto facts = security::read_certificate_der(certificate);
  return facts && facts->daemon == security::DaemonName{DaemonKind::kHive, hive_id};
}

Status ColonyTls::trust_in(const std::string& hive_data_dir) const {
  std::error_code problem;
  std::filesystem::create_directories(hive_data_dir + "/tls", problem);
  std::filesystem::permissions(hive_data_dir, std::filesystem::perms::owner_all, problem);
  return security::write_secret_file(hive_data_dir + "/tls/root.pem", authority_->root());
}

void ColonyTls::revoke(const std::string& hive_id, std::function<void(Status)> then) {
  const auto outcome = std::make_shared<Status>();
  revoking_->run(
      [authority = authority_, outcome, hive_id] {
        *outcome = authority->revoke({DaemonKind::kHive, hive_id});
      },
      [outcome, then = std::move(then)](const Status& done) { then(done ? *outcome : done); });
}

}  // namespace llorch::queen
