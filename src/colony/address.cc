#include "colony/address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <memory>

#include "net/http_client.h"
#include "net/url.h"

namespace llorch::colony {
namespace {

std::string text_of(int family, const void* address) {
  char text[INET6_ADDRSTRLEN] = {};
  return inet_ntop(family, address, text, sizeof text) ? text : "";
}

std::string text_of(const in6_addr& six) {
  return IN6_IS_ADDR_V4MAPPED(&six) ? text_of(AF_INET, six.s6_addr + 12) : text_of(AF_INET6, &six);
}

}  // namespace

std::string normal_host(std::string_view host) {
  if (host.size() > 2 && host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  std::string text(host);
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (text == "localhost") return "127.0.0.1";
  in_addr four{};
  in6_addr six{};
  if (inet_pton(AF_INET, text.c_str(), &four) == 1) return text_of(AF_INET, &four);
  if (inet_pton(AF_INET6, text.c_str(), &six) == 1) return text_of(six);
  return text;
}

bool is_any_address(std::string_view host) {
  const std::string text = normal_host(host);
  return text == "0.0.0.0" || text == "::";
}

bool is_own_address(std::string_view host) {
  const std::string text = normal_host(host);
  in_addr four{};
  if (text == "::1" || (text.starts_with("127.") && inet_pton(AF_INET, text.c_str(), &four) == 1)) return true;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return false;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> keep(list, freeifaddrs);
  for (const ifaddrs* i = list; i; i = i->ifa_next) {
    if (!i->ifa_addr) continue;
    if (i->ifa_addr->sa_family == AF_INET) {
      sockaddr_in a{};
      std::memcpy(&a, i->ifa_addr, sizeof a);
      if (text_of(AF_INET, &a.sin_addr) == text) return true;
    } else if (i->ifa_addr->sa_family == AF_INET6) {
      sockaddr_in6 a{};
      std::memcpy(&a, i->ifa_addr, sizeof a);
      if (text_of(a.sin6_addr) == text) return true;
    }
  }
  return false;
}

bool is_local_scope(std::string_view host) {
  std::string text = normal_host(host);
  text.resize(std::min(text.size(), text.find('%')));  // a zone
  in_addr four{};
  in6_addr six{};
  if (inet_pton(AF_INET, text.c_str(), &four) == 1) {
    const std::uint32_t bits = ntohl(four.s_addr);
    return bits >> 24 == 127 || bits >> 16 == 0xA9FE || bits >> 28 >= 0xE || bits >> 24 == 0;
  }
  return inet_pton(AF_INET6, text.c_str(), &six) == 1 && (IN6_IS_ADDR_LOOPBACK(&six) || IN6_IS_ADDR_LINKLOCAL(&six) ||
                                                          IN6_IS_ADDR_MULTICAST(&six) || IN6_IS_ADDR_V4COMPAT(&six));
}

bool is_from_here(const Origin& from) {
  const std::string peer = normal_host(from.peer);
  return peer == normal_host(from.local) || is_own_address(peer);
}

Result<std::string> host_of_joining(std::string_view host, const Origin& from, bool proves_itself) {
  const std::string named = normal_host(host), peer = normal_host(from.peer);
  if (is_any_address(named)) return "";
  if (named == peer || (is_from_here(from) && is_own_address(named))) return named;
  if (is_local_scope(named) || is_own_address(named))
    return fail(ErrorCode::kForbidden,
                "{} leads elsewhere from the queen's machine: a hive that joins from {} names an address at which the "
                "queen reaches it (--listen)",
                named, peer);
  if (!proves_itself && !net::is_ip_address(named))
    return fail(ErrorCode::kForbidden, "in a colony without TLS a hive names an address, not a host's name ({})",
                named);
  return named;
}

Result<std::string> settle_host(std::string_view host, const Origin& from) {
  const std::string peer = normal_host(from.peer), named = normal_host(host);
  if (is_any_address(named)) return peer;
  if (named == peer) return named;
  // Which of this machine's addresses a connection within it shows, is chance.
  const bool own = is_own_address(named);
  if (own && is_from_here(from)) return named;
  if (!from.joined.empty() && named == normal_host(from.joined) && !own && !is_local_scope(named)) return named;
  return fail(ErrorCode::kForbidden,
              "a daemon may name the address that it calls from ({}), or the one that it gave when it joined", peer);
}

Result<std::string> settle_url(std::string_view url, const Origin& from) {
  LLORCH_TRY(const net::Url parsed, net::parse_url(url));
  LLORCH_TRY(const std::string host, settle_host(parsed.host, from));
  if (!is_any_address(parsed.host)) return std::string(url);
  return fmt::format("{}://{}:{}{}", parsed.tls ? "https" : "http", host.contains(':') ? "[" + host + "]" : host,
                     parsed.port, parsed.path == "/" ? "" : parsed.path);
}

Status settle_addresses(HiveBeat& beat, const Origin& from) {
  LLORCH_TRY(beat.url, settle_url(beat.url, from));
  for (WorkerFacts& w : beat.workers)
    if (!w.uri.empty()) {  // one that is starting has none
      LLORCH_TRY(w.uri, settle_url(w.uri, from));
    }
  return {};
}

}  // namespace llorch::colony
