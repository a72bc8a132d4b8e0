// Who may do what: bearer tokens with scopes, kept only as hashes (S-01 to S-05, S-20).
//
// Threads: one. Errors: kMissingApiKey, kInvalidApiKey, kForbidden, kRateLimited; none repeats a token.
#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace llorch::security {

enum class Scope { kPublic, kMetrics, kInfer, kNode, kAdmin };
[[nodiscard]] std::string_view name(Scope scope);
[[nodiscard]] std::optional<Scope> parse_scope(std::string_view text);

struct Principal {
  std::string id;  // "local" without authentication, else "token:" and 6 hex digits of the hash
  std::set<Scope> scopes;
  [[nodiscard]] bool may(Scope scope) const {
    return scope == Scope::kPublic || scopes.contains(scope) || scopes.contains(Scope::kAdmin);
  }
};

/// The token of "Bearer <token>". Errors: kInvalidApiKey for another scheme, more than 8 kB, control characters.
[[nodiscard]] Result<std::string> parse_bearer(std::string_view header);

/// A secret out of a file: regular, not readable by others, at most 1 MB; white space at both ends removed.
[[nodiscard]] Result<std::string> read_secret_file(const std::string& path);
/// The operator's token, from (in order) the file named, a systemd credential "api-token", LLORCH_API_TOKEN_FILE,
/// LLORCH_API_TOKEN; absent when none is set. `warning` is filled when it came from the environment.
[[nodiscard]] Result<std::optional<std::string>> find_operator_token(const std::string& file, std::string& warning);

class Authenticator {
 public:
  /// Without any key, everyone is "local" and may do everything: for loopback only, which the caller ensures.
  void add_token(std::string_view token, std::set<Scope> scopes);
  /// Lines "<scope>[,<scope>] <64 hex digits of SHA-256>". Errors: kInvalidRequest naming the line.
  [[nodiscard]] Status add_keys_file(const std::string& path);
  [[nodiscard]] bool required() const { return !keys_.empty(); }

  using Time = std::chrono::steady_clock::time_point;
  /// `authorization` and `api_key`: the header values. Ten failures of one address in a minute make more kRateLimited.
  [[nodiscard]] Result<Principal> authenticate(std::optional<std::string> authorization,
                                               std::optional<std::string> api_key, std::string_view peer, Time now);

 private:
  struct Key {
    std::string hash;  // 32 raw bytes
    std::set<Scope> scopes;
  };
  struct Failures {
    Time since;
    int count = 0;
  };
  [[nodiscard]] Result<Principal> check(const std::optional<std::string>& authorization,
                                        const std::optional<std::string>& api_key) const;
  std::vector<Key> keys_;
  std::unordered_map<std::string, Failures> failures_;
};

inline constexpr std::size_t kTokenBytesMin = 16;

/// 127.0.0.0/8, ::1, localhost.
[[nodiscard]] bool is_loopback(std::string_view address);
/// Whether a Host header names this server: loopback names, `own`, or an allowed one; any port.
[[nodiscard]] bool host_allowed(std::string_view host_header, std::string_view own,
                                const std::vector<std::string>& allowed);

/// Bearer tokens, key=value secrets, JWTs, PEM keys and URL passwords become [REDACTED] (O-04).
[[nodiscard]] std::string redact(std::string_view text);

}  // namespace llorch::security
