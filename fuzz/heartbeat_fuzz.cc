// Heartbeats and terminals. A beat that is taken names only addresses that may be called: the peer's, the one given at
// joining, or this machine's where the peer is this machine; and taken again it is taken the same. The first byte
// chooses who sends it, or that the rest is text for a terminal, cut anywhere.
#include <cstdint>
#include <string_view>

#include "base/terminal.h"
#include "colony/address.h"
#include "colony/facts.h"
#include "format/json.h"
#include "net/http_client.h"

using namespace llorch;

namespace {

void must(bool holds) {
  if (!holds) __builtin_trap();
}

void show(std::string_view text, std::size_t cut) {
  const std::string whole = clean_for_terminal(text);
  TerminalCleaner pieces;
  std::string out = pieces.push(text.substr(0, cut));
  out += pieces.push(text.substr(cut));
  must(out + pieces.finish() == whole);
  must(clean_for_terminal(whole) == whole);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    const auto c = static_cast<unsigned char>(whole[i]);
    must((c >= 0x20 && c != 0x7F) || c == '\n' || c == '\t');
    if (c == 0xC2) must(i + 1 < whole.size() && static_cast<unsigned char>(whole[i + 1]) >= 0xA0);  // no C1
  }
}

void check_address(std::string_view url, const colony::Origin& from) {
  const auto parsed = net::parse_url(url);
  must(parsed.has_value());
  const std::string host = colony::normal_host(parsed->host);
  must(host == colony::normal_host(from.peer) || (!from.joined.empty() && host == colony::normal_host(from.joined)) ||
       (colony::is_own_address(from.peer) && colony::is_own_address(host)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (data[0] % 4 == 0) {
    show(text, data[1] % (text.size() + 1));
    return 0;
  }
  const colony::Origin origins[] = {
      {"127.0.0.1", "127.0.0.1", ""}, {"203.0.113.7", "203.0.113.1", "box.lan"}, {"2001:db8::7", "2001:db8::1", ""}};
  const colony::Origin& from = origins[data[0] % 4 - 1];
  if (data[1] % 2 == 0) {
    if (const auto url = colony::settle_url(text, from)) {
      check_address(*url, from);
      const auto again = colony::settle_url(*url, from);
      must(again && *again == *url);
    }
    return 0;
  }
  const auto json = json::parse(text, "heartbeat");
  if (!json) return 0;
  auto beat = colony::read_beat(*json);
  if (!beat || !colony::settle_addresses(*beat, from)) return 0;
  check_address(beat->url, from);
  for (const auto& w : beat->workers)
    if (!w.uri.empty()) check_address(w.uri, from);
  auto again = *beat;
  must(colony::settle_addresses(again, from).has_value() && again.url == beat->url);
  return 0;
}
