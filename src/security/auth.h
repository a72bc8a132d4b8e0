// Who may do what: bearer tokens with scopes, kept only as hashes (S-01 to S-05, S-20).
//
// Threads: one. Errors: kMissingApiKey, kInvalidApiKey, kForbidden, kRateLimited; none repeats a token.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "security/keys.h"

namespace llorch::security {

struct Principal {
  std::string id;    // "local" without authentication, else "token:" and 6 hex digits of the hash
  std::string name;  // of the key, where it has one
  std::set<Scope> scopes;
  [[nodiscard]] bool may(Scope scope) const {
    return scope == Scope::kPublic || scopes.contains(scope) || scopes.contains(Scope::kAdmin);
  }
};

/// The token of "Bearer <token>". Errors: kInvalidApiKey for another scheme, more than 8 kB, control characters.
[[nodiscard]] Result<std::string> parse_bearer(std::string_view header);

/// The operator's token, from (in order) the file named, a systemd credential "api-token", LLORCH_API_TOKEN_FILE,
/// LLORCH_API_TOKEN; absent when none is set. `warning` is filled when it came from the environment.
[[nodiscard]] Result<std::optional<std::string>> find_operator_token(const std::string& file, std::string& warning);

/// What a request shows of who it is from.
struct Credentials {
  std::optional<std::string> authorization, api_key;  // header values
  std::optional<std::string> proxy_user;              // X-Forwarded-User
  std::string_view peer;                              // address
};

class Authenticator {
 public:
  /// Without any key, everyone is "local" and may do everything: for loopback only, which the caller ensures.
  void add_token(std::string_view token, std::set<Scope> scopes);
  /// A key with a name, which comes while the daemon runs and goes again by its label.
  void admit(ApiKey key) { keys_.push_back(std::move(key)); }
  void dismiss(std::string_view label);
  /// `event`: token_created, token_revoked, or integrity_violation with the reason in place of scopes.
  using KeyChange =
      std::function<void(std::string_view event, const std::string& label, const std::string& scopes_or_reason)>;
  /// Keys of a file (security/keys.h), read again whenever it has changed: a revoked key is refused at its next
  /// request. A file that is not there admits nobody; one that cannot be read leaves what was before. Errors: its.
  [[nodiscard]] Status watch_keys_file(const std::string& path, KeyChange on_change);
  /// A front proxy on this machine says who its users are (S-08); they may infer.
  void trust_proxy() { trust_proxy_ = true; }
  [[nodiscard]] bool required() const { return !keys_.empty() || !keys_file_.empty(); }

  using Time = std::chrono::steady_clock::time_point;
  /// Ten failures of one address in a minute make more kRateLimited.
  [[nodiscard]] Result<Principal> authenticate(const Credentials& given, Time now);

 private:
  struct Failures {
    Time since;
    int count = 0;
  };
  struct FileState {
    ino_t inode = 0;
    off_t size = 0;
    time_t seconds = 0;
    long nanoseconds = 0;
    bool operator==(const FileState&) const = default;
  };
  [[nodiscard]] Result<Principal> check(const Credentials& given) const;
  [[nodiscard]] Status read_keys_file();
  std::vector<ApiKey> keys_, file_keys_;
  std::string keys_file_;
  FileState keys_file_state_;
  KeyChange on_key_;
  bool trust_proxy_ = false;
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
/// Amounts of memory become "...": what a key without admin scope may read (J-04).
[[nodiscard]] std::string without_figures(std::string_view text);

}  // namespace llorch::security
