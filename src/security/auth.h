// Who may do what: bearer tokens with scopes, kept only as hashes (S-01 to S-05, S-20).
//
// Threads: one. Errors: kMissingApiKey, kInvalidApiKey, kForbidden, kRateLimited; none repeats a token.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "security/keys.h"
#include "security/keys_file.h"
#include "security/limiter.h"
#include "security/redact.h"

namespace llorch::security {

struct Principal {
  std::string id;    // "local" without authentication, else the key's identity: compared, not shown
  std::string name;  // of a key that was admitted while the daemon runs: what it is for
  std::set<Scope> scopes;
  bool is_operator = false;  // showed the operator's own token
  [[nodiscard]] bool may(Scope scope) const {
    return scope == Scope::kPublic || scopes.contains(scope) || scopes.contains(Scope::kAdmin);
  }
  /// How logs and audit name it.
  [[nodiscard]] std::string label() const { return label_of(id); }
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
  /// An operator's token. Without any key, everyone is "local" and may do everything: for loopback only, which the
  /// caller ensures.
  void add_token(std::string_view token, std::set<Scope> scopes);
  /// A key with a name, which comes while the daemon runs and goes again by its hash. (Labels are short: among a
  /// thousand keys two may share one.)
  void admit(ApiKey key) { keys_.push_back(std::move(key)); }
  void dismiss(std::string_view hash);
  /// A key that people made at any of several daemons, admitted until it is unshared. Its name is for people, and says
  /// nothing of what it is for. Another one with the same hash is replaced.
  void share(ApiKey key);
  void unshare(std::string_view hash);
  /// What is said of a key that opens nothing, to whoever shows it; "": no more than that.
  void explain_refusals(std::function<std::string(std::string_view key, const std::string& hash)> explain) {
    explain_ = std::move(explain);
  }
  /// The keys of a file, as it is at each request (security/keys_file.h). Errors: those of reading it.
  [[nodiscard]] Status watch_keys_file(const std::string& path, KeyChange on_change);
  /// A front proxy on this machine says who its users are (S-08); they may infer.
  void trust_proxy() { trust_proxy_ = true; }
  [[nodiscard]] bool required() const { return !keys_.empty() || keys_file_; }

  using Time = std::chrono::steady_clock::time_point;
  /// A right key always opens. Ten failures in a minute make more wrong keys kRateLimited (security/limiter.h).
  [[nodiscard]] Result<Principal> authenticate(const Credentials& given, Time now);

 private:
  [[nodiscard]] Result<Principal> check(const Credentials& given) const;
  std::vector<ApiKey> keys_, shared_;
  std::vector<std::string> operator_hashes_;
  std::unique_ptr<KeysFile> keys_file_;
  std::function<std::string(std::string_view, const std::string&)> explain_;
  bool trust_proxy_ = false;
  FailureLimiter failures_;
};

inline constexpr std::size_t kTokenBytesMin = 16;

/// 127.0.0.0/8, ::1, localhost.
[[nodiscard]] bool is_loopback(std::string_view address);
/// Whether a Host header names this server: loopback names, `own`, or an allowed one; any port, any case.
[[nodiscard]] bool host_allowed(std::string_view host_header, std::string_view own,
                                const std::vector<std::string>& allowed);

}  // namespace llorch::security
