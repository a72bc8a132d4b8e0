// URLs, taken apart and put together. Whatever is put into a path or a query is escaped here and nowhere else.
//
// url_path("/v1/memory-check").query("model", ref) is "/v1/memory-check?model=file%3A%2Fa%20b.gguf": parse_target()
// gives back exactly what was put in. Errors: kInvalidRequest. Source: RFC 3986. Thread-safe: values only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace llorch::net {

/// A request's path and query. `fixed` is a path of our own, such as "/v1/jobs"; segments and values may be any text.
class UrlPath {
 public:
  explicit UrlPath(std::string_view fixed) : text_(fixed) {}
  /// Appends "/" and the text, whose slashes are escaped. A server refuses a segment with a "\" in it, or where what
  /// is before, between or behind its slashes is empty, "." or "..".
  UrlPath& segment(std::string_view text);
  /// The same for several, between which "/" stands: a file's name in a repository.
  UrlPath& segments(std::string_view text);
  /// More of our own.
  UrlPath& fixed(std::string_view more) { return text_ += more, *this; }
  /// Appends "?name=value", or "&name=value" after the first.
  UrlPath& query(std::string_view name, std::string_view value);
  [[nodiscard]] const std::string& text() const { return text_; }
  operator std::string() const { return text_; }  // NOLINT(google-explicit-constructor): it is one

 private:
  std::string text_;
  bool has_query_ = false;
};
[[nodiscard]] inline UrlPath url_path(std::string_view fixed) { return UrlPath(fixed); }

struct Url {
  std::string host;
  std::uint16_t port = 80;
  std::string path = "/";  // with the query, escaped
  bool tls = false;        // https
  /// The same server, at `target` below this URL's own path.
  [[nodiscard]] Url below(std::string_view target) const;
};
/// http[s]://host[:port][/path]; no user information.
[[nodiscard]] Result<Url> parse_url(std::string_view text);

/// An IP address of either family, without brackets and zone.
[[nodiscard]] bool is_ip_address(const std::string& host);

/// A character that a path or a query holds as it is.
[[nodiscard]] bool is_unreserved(char c);
/// What may stand in a request line: "/", then printable ASCII without blanks.
[[nodiscard]] bool is_request_target(std::string_view text);
/// Whether the bytes are UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF (RFC 3629).
[[nodiscard]] bool is_utf8(std::string_view text);

}  // namespace llorch::net
