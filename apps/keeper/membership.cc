#include "keeper/membership.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <sstream>
#include <vector>

#include "base/open_file.h"
#include "colony/address.h"
#include "config_file.h"
#include "net/url.h"
#include "queen_start.h"
#include "security/auth.h"
#include "security/certificate.h"
#include "security/keys.h"

namespace llorch::keeper {
namespace {

constexpr std::size_t kStartBytesMax = 64u << 10, kTheirRootBytesMax = 64u << 10;

bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

/// The word that follows `flag`; empty: there is none. Our own commands have values without blanks there (host.cc).
std::string value_of(const std::vector<std::string>& words, std::string_view flag) {
  for (std::size_t i = 0; i + 1 < words.size(); ++i)
    if (words[i] == flag) return words[i + 1];
  return "";
}

}  // namespace

std::string hive_by_hand_folder() { return cli::variable("HOME") + "/.local/share/llorch/hive-by-hand"; }

std::optional<Membership> own_membership() {
  Membership m;
  m.folder = hive_by_hand_folder();
  const auto start = read_text_file(m.folder + "/start", kStartBytesMax);
  if (!start) return std::nullopt;
  std::istringstream text(*start);
  const std::vector<std::string> words{std::istream_iterator<std::string>(text), {}};
  m.queen_url = value_of(words, "--queen-url"), m.hive_id = value_of(words, "--hive-id");
  if (value_of(words, "--join-token-file").empty() || !net::parse_url(m.queen_url)) return std::nullopt;
  const std::string port = value_of(words, "--port");
  std::from_chars(port.data(), port.data() + port.size(), m.port);
  m.has_key = exists(m.folder + "/node-token");
  if (!m.has_key && exists(m.folder + "/join-token")) return std::nullopt;  // it has tried to join, and no more
  if (exists(m.folder + "/tls/root.pem")) m.root_file = m.folder + "/tls/root.pem";
  if (const auto own = security::read_secret_file(m.folder + "/tls/own.pem")) {
    const std::size_t chain = std::min(own->find("-----BEGIN CERTIFICATE-----"), own->size());
    m.own = {own->substr(chain) + "\n", own->substr(0, chain)};
    const auto facts = security::read_certificate(m.own.chain);
    if (facts && !facts->daemon.id.empty()) m.tls_name = facts->daemon.tls_name();
  }
  return m;
}

std::optional<Membership> membership_elsewhere(const std::string& data_dir) {
  auto m = own_membership();
  if (!m) return std::nullopt;
  if (const auto url = net::parse_url(m->queen_url);
      security::is_loopback(url->host) || colony::is_own_address(url->host))
    return std::nullopt;
  const auto last = read_queen_start(data_dir);
  if (last && last->for_network) return std::nullopt;
  const auto own = read_text_file(data_dir + "/ca/root.pem", kTheirRootBytesMax);
  const auto theirs = read_text_file(m->root_file, kTheirRootBytesMax);
  if (own && theirs && *own == *theirs) return std::nullopt;
  return m;
}

}  // namespace llorch::keeper
