// What an HTTP exchange consists of, without sockets.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace llorch::net {

/// Header fields in order; names compare without regard to case.
class Headers {
 public:
  void add(std::string name, std::string value) { fields_.emplace_back(std::move(name), std::move(value)); }
  [[nodiscard]] std::optional<std::string> get(std::string_view name) const;
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& fields() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};
[[nodiscard]] bool equal_ignoring_case(std::string_view a, std::string_view b);

/// What parse_target() says of a path that climbs: an audit log wants to know.
inline constexpr std::string_view kDotSegments = "empty, '.' and '..' segments are refused";

/// A request target in its one canonical form: a path of plain segments and decoded query parameters.
struct Target {
  std::string path;
  std::size_t escaped_slash = std::string::npos;  // where in `path` the first slash stands that was written as %2F
  std::string host;                               // with its port, of the absolute form; empty: see the Host header
  std::vector<std::pair<std::string, std::string>> query;
  [[nodiscard]] std::optional<std::string> parameter(std::string_view name) const;
};
/// Origin form, or absolute form of http and https. A slash at the end is dropped. Refused: other forms, empty segments
/// ("//"), ".", "..", also between escaped slashes, escapes that spell unreserved characters or "\", control
/// characters, what is no UTF-8 when decoded, fragments, user information. An escaped slash is told: the router takes
/// it only where a route takes the rest of a path. Decoded once: "%2541" is "%41". Errors: kInvalidRequest.
[[nodiscard]] Result<Target> parse_target(std::string_view text);

/// Checks what a lenient parser would let pass: folded lines, bare line feeds, blanks before a colon, doubled Host,
/// Content-Length or Transfer-Encoding, both of the latter together, other than "chunked". `head` is everything up to
/// and with the empty line. Errors: kInvalidRequest.
[[nodiscard]] Status check_head(std::string_view head);

/// The memory for all bodies of a server (ServerOptions::bodies_bytes_max), and an eighth more for short ones: where
/// long prompts have taken everything, what daemons tell each other still gets through.
struct BodyBudget {
  explicit BodyBudget(std::size_t max) : bytes_max(max) {}
  static constexpr std::size_t kShortBytesMax = 64u << 10;
  [[nodiscard]] std::size_t max_for(std::size_t body) const {
    return body <= kShortBytesMax ? bytes_max + bytes_max / 8 : bytes_max;
  }
  const std::size_t bytes_max;
  std::atomic<std::size_t> bytes{0};
};

/// A share of it, given back with the object. Threads: one at a time.
class BodyShare {
 public:
  explicit BodyShare(std::shared_ptr<BodyBudget> budget) : budget_(std::move(budget)) {}
  ~BodyShare() { budget_->bytes -= bytes_; }
  BodyShare(const BodyShare&) = delete;
  BodyShare& operator=(const BodyShare&) = delete;
  /// To so many bytes in all. False: there are not so many.
  [[nodiscard]] bool grow(std::size_t bytes);

 private:
  std::shared_ptr<BodyBudget> budget_;
  std::size_t bytes_ = 0;
};
/// Whoever keeps a body, or what was made of it, keeps this as long.
using BodySharePtr = std::shared_ptr<const BodyShare>;

struct Request {
  std::string method;
  Target target;
  Headers headers;
  std::string body;
  BodySharePtr body_share;  // null where there is no body
  bool has_body = false;    // one follows the head
  std::string peer, local;  // addresses of both ends, without port
  /// What the peer has shown over TLS and we believe, in DER; null: nothing.
  std::shared_ptr<const std::string> certificate;
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  Headers headers;
};

}  // namespace llorch::net
