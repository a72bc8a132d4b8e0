#include "queen/host_names.h"

#include <algorithm>

#include "colony/address.h"
#include "net/tls.h"
#include "net/url.h"
#include "queen/colony_tls.h"
#include "service/process.h"

namespace llorch::queen {
namespace {

constexpr std::size_t kNameMax = 253;  // of a DNS name: RFC 1035

bool is_dns_name(const std::string& host) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  };
  return !host.empty() && host.size() <= kNameMax && std::ranges::all_of(host, good);
}

/// "name:port" without its port, which a Host header is compared without.
std::string without_port(const std::string& host) {
  const std::size_t colon = host.find(':');
  return colon == std::string::npos || net::is_ip_address(host) || host.starts_with('[') ? host : host.substr(0, colon);
}

}  // namespace

std::vector<std::string> certified_hosts(std::vector<std::string> hosts) {
  std::erase_if(hosts, [](const std::string& host) {
    return (!net::is_ip_address(host) && !is_dns_name(host)) || net::is_colony_name(host);
  });
  return hosts;
}

std::vector<std::string> admitted_hosts(const service::FrontOptions& o) {
  std::vector<std::string> all;
  for (const std::string& host : o.allowed_hosts) all.push_back(without_port(host));
  if (!o.wants_tls() && security::is_loopback(o.listen)) return all;
  if (o.wants_tls()) all.push_back(security::queen_tls_name());
  for (const std::string& host : own_hosts({})) all.push_back(host.contains(':') ? "[" + host + "]" : host);
  return all;
}

std::vector<std::string> meeting_hosts(const service::FrontOptions& o) {
  std::vector<std::string> all;
  if (security::is_loopback(o.listen)) return all;
  const auto add = [&](const std::string& host) {
    if (!security::is_loopback(host) && std::ranges::find(all, host) == all.end()) all.push_back(host);
  };
  for (const std::string& host : o.allowed_hosts) add(without_port(host));
  if (!colony::is_any_address(o.listen)) {
    add(o.listen);
    return all;
  }
  add(service::host_name());
  for (const std::string& host : own_hosts({})) add(host);
  return all;
}

}  // namespace llorch::queen
