#include "net/url.h"

#include <arpa/inet.h>

#include <algorithm>
#include <utility>

#include "base/integer.h"

namespace llorch::net {

bool is_ip_address(const std::string& host) {
  in6_addr unused{};
  return inet_pton(AF_INET, host.c_str(), &unused) == 1 || inet_pton(AF_INET6, host.c_str(), &unused) == 1;
}

bool is_unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("-._~").contains(c);
}

namespace {

void escape(std::string_view text, std::string& out) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  for (const char c : text) {
    if (is_unreserved(c)) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%', out += kHex[byte >> 4], out += kHex[byte & 15];
  }
}

}  // namespace

UrlPath& UrlPath::segment(std::string_view text) {
  text_ += '/';
  escape(text, text_);
  return *this;
}

UrlPath& UrlPath::segments(std::string_view text) {
  while (true) {
    const std::size_t slash = text.find('/');
    segment(text.substr(0, slash));
    if (slash == std::string_view::npos) return *this;
    text.remove_prefix(slash + 1);
  }
}

UrlPath& UrlPath::query(std::string_view name, std::string_view value) {
  text_ += std::exchange(has_query_, true) ? '&' : '?';
  escape(name, text_);
  text_ += '=';
  escape(value, text_);
  return *this;
}

Url Url::below(std::string_view target) const {
  Url url = *this;
  while (url.path.ends_with('/')) url.path.pop_back();
  url.path += target;
  return url;
}

bool is_request_target(std::string_view text) {
  return text.starts_with('/') && std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i++]);
    if (first < 0x80) continue;
    const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || text.size() - i < static_cast<std::size_t>(more)) return false;
    char32_t code = first & (0x3fu >> more);
    for (int k = 0; k < more; ++k) {
      const auto next = static_cast<unsigned char>(text[i++]);
      if ((next & 0xc0) != 0x80) return false;
      code = code << 6 | (next & 0x3f);
    }
    if (code < (more == 3 ? 0x10000u : more == 2 ? 0x800u : 0x80u) || code > 0x10ffff) return false;
    if (code >= 0xd800 && code <= 0xdfff) return false;
  }
  return true;
}

Result<Url> parse_url(std::string_view text) {
  const auto bad = [](std::string_view why) { return fail(ErrorCode::kInvalidRequest, "URL: {}", why); };
  Url url;
  url.tls = text.starts_with("https://");
  if (!url.tls && !text.starts_with("http://")) return bad("must begin with http:// or https://");
  if (url.tls) url.port = 443;
  text.remove_prefix(url.tls ? 8 : 7);
  const std::size_t slash = text.find('/');
  if (slash != std::string_view::npos) url.path = text.substr(slash);
  std::string_view authority = text.substr(0, slash);
  if (authority.contains('@')) return bad("user information is refused");
  if (const std::size_t colon = authority.rfind(':'); colon != std::string_view::npos && !authority.ends_with(']')) {
    const std::string_view digits = authority.substr(colon + 1);
    const auto port = parse_integer<decltype(url.port)>(digits);
    if (!port || *port == 0) return bad("the port is not a number");
    url.port = *port;
    authority = authority.substr(0, colon);
  }
  if (authority.starts_with('[') && authority.ends_with(']')) authority = authority.substr(1, authority.size() - 2);
  for (const char c : authority)
    if (!std::isalnum(static_cast<unsigned char>(c)) && !std::string_view(".-_:").contains(c))
      return bad("the host has a character that it cannot have");
  if (authority.empty()) return bad("the host is missing");
  url.host = authority;
  if (!is_request_target(url.path)) return bad("the path has a character that must be escaped");
  return url;
}

}  // namespace llorch::net
