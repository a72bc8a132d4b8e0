#include "hive/public_address.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

namespace llorch::hive {
namespace {

struct Range4 {
  std::uint32_t net;
  int bits;
};
constexpr Range4 kSpecial4[] = {
    {0x00000000, 8},   // this network
    {0x0a000000, 8},   // private
    {0x64400000, 10},  // shared, between a provider and its customers
    {0x7f000000, 8},   // loopback
    {0xa9fe0000, 16},  // link-local, and what clouds tell their machines
    {0xac100000, 12},  // private
    {0xc0000000, 24},  // protocols
    {0xc0000200, 24},  // documentation
    {0xc0586300, 24},  // relays of 6to4
    {0xc0a80000, 16},  // private
    {0xc6120000, 15},  // benchmarks
    {0xc6336400, 24},  // documentation
    {0xcb007100, 24},  // documentation
    {0xe0000000, 4},   // multicast
    {0xf0000000, 4},   // reserved, and broadcast
};

struct Range6 {
  std::array<unsigned char, 6> net;
  int bits;
};
constexpr Range6 kGlobal6{{0x20}, 3};
constexpr Range6 kSpecial6[] = {
    {{0x20, 0x01, 0x00}, 23},        // protocols; Teredo, which leads to IPv4
    {{0x20, 0x01, 0x0d, 0xb8}, 32},  // documentation
    {{0x20, 0x02}, 16},              // 6to4, which leads to IPv4
    {{0x3f, 0xff, 0x00}, 20},        // documentation
};

using Address6 = std::span<const unsigned char, 16>;

bool holds(const Range6& range, Address6 ip) {
  for (int i = 0; i < range.bits; ++i) {
    const auto at = static_cast<std::size_t>(i) / 8;
    if (((ip[at] ^ range.net[at]) >> (7 - i % 8) & 1) != 0) return false;
  }
  return true;
}

bool is_public(std::uint32_t ip) {
  return std::ranges::none_of(kSpecial4, [ip](const Range4& r) { return (ip ^ r.net) >> (32 - r.bits) == 0; });
}

bool is_public(Address6 ip) {
  constexpr std::array<unsigned char, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff},
      kNat64{0x00, 0x64, 0xff, 0x9b};
  const auto begin = ip.first<12>();
  if (std::ranges::equal(begin, kMapped) || std::ranges::equal(begin, kNat64))
    return is_public(std::uint32_t{ip[12]} << 24 | std::uint32_t{ip[13]} << 16 | std::uint32_t{ip[14]} << 8 | ip[15]);
  return holds(kGlobal6, ip) && std::ranges::none_of(kSpecial6, [ip](const Range6& r) { return holds(r, ip); });
}

}  // namespace

bool is_public_address(const sockaddr* address) {
  if (address->sa_family == AF_INET)
    return is_public(ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr));
  if (address->sa_family != AF_INET6) return false;
  return is_public(Address6(reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr.s6_addr));
}

}  // namespace llorch::hive
