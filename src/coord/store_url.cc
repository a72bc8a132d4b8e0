#include "coord/store_url.h"

#include <algorithm>

#include "security/keys.h"

namespace llorch::coord {
namespace {

constexpr std::size_t kEndpointsMax = 16;
constexpr std::uint16_t kEtcdPort = 2379;

Result<net::Url> parse_endpoint(std::string_view text, bool tls) {
  if (text.empty()) return fail(ErrorCode::kInvalidRequest, "it is empty");
  if (const std::size_t at = text.find_first_of("/?#"); at != text.npos)
    return fail(ErrorCode::kInvalidRequest, "'{}' behind the host is refused", text.substr(at));
  const bool has_port = text.rfind(':') != text.npos && !text.ends_with(']');
  LLORCH_TRY(net::Url url, net::parse_url(fmt::format("http://{}", text)));
  if (!has_port) url.port = kEtcdPort;
  url.tls = tls;
  return url;
}

}  // namespace

Result<StoreUrl> parse_store_url(std::string_view text) {
  StoreUrl url;
  if (text == "sqlite") return url;
  if (text.starts_with("sqlite:")) {
    url.file = text.substr(7);
    if (url.file.empty()) return fail(ErrorCode::kInvalidRequest, "the store 'sqlite:': the file is missing");
    return url;
  }
  const bool tls = text.starts_with("etcds://");
  if (!tls && !text.starts_with("etcd://"))
    return fail(ErrorCode::kInvalidRequest,
                "the store '{}' must be 'sqlite', 'sqlite:FILE', 'etcd://HOST:PORT,...' or 'etcds://HOST:PORT,...'",
                text);
  url.kind = StoreUrl::Kind::kEtcd;
  std::string_view rest = text.substr(tls ? 8 : 7);
  while (true) {
    const std::size_t comma = rest.find(',');
    const std::string_view part = rest.substr(0, comma);
    const std::size_t number = url.endpoints.size() + 1;
    const auto bad = [&](std::string_view why) {
      return fail(ErrorCode::kInvalidRequest, "the store '{}': endpoint {} ('{}'): {}", text, number, part, why);
    };
    auto endpoint = parse_endpoint(part, tls);
    if (!endpoint) return bad(endpoint.error().message);
    const auto same = [&](const net::Url& u) { return u.host == endpoint->host && u.port == endpoint->port; };
    if (std::ranges::any_of(url.endpoints, same)) return bad("it is listed twice");
    if (number > kEndpointsMax) return bad("there are more than 16");
    url.endpoints.push_back(*std::move(endpoint));
    if (comma == rest.npos) return url;
    rest.remove_prefix(comma + 1);
  }
}

Status check_prefix(std::string_view prefix) {
  const auto bad = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidRequest, "the prefix '{}': {}", prefix, why);
  };
  if (!prefix.starts_with('/') || prefix.size() < 2) return bad("it must be '/' and a name");
  if (prefix.ends_with('/')) return bad("it must not end in '/'");
  if (prefix.size() > 256) return bad("it is longer than 256 bytes");
  const auto plain = [](char c) { return net::is_unreserved(c) || c == '/'; };
  if (!std::ranges::all_of(prefix, plain)) return bad("it may have letters, digits, '-', '.', '_', '~' and '/'");
  return {};
}

Result<Credentials> read_credentials(const std::string& path) {
  LLORCH_TRY(const std::string text, security::read_secret_file(path));
  const std::size_t colon = text.find(':');
  if (colon == text.npos || colon == 0 || colon + 1 == text.size() || text.contains('\n'))
    return fail(ErrorCode::kInvalidRequest, "{}: it must have one line, user:password", path);
  return Credentials{text.substr(0, colon), text.substr(colon + 1)};
}

}  // namespace llorch::coord
