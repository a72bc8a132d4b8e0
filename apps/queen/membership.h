// Who belongs to the colony without knowing its token: hives that joined with a one-time token (S-07, Q-12).
//
// A join token is good once, for ten minutes. Joining gives a hive a key of its own, which opens what nodes may do and
// only under its own name; the hive gives the token that opens its own API, which is kept in a file of mode 0600. Only
// hashes of keys are kept in the catalog. Threads: the event loop's, but load() and the writing of files.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "queen/catalog.h"
#include "security/auth.h"

namespace llorch::queen {

class Membership {
 public:
  Membership(security::Authenticator& keys, std::string folder) : keys_(keys), folder_(std::move(folder)) {}

  /// Admits the keys of the catalog's hives and reads the tokens that open them. Errors: those of secret files.
  [[nodiscard]] Status load(const std::map<std::string, HiveRow>& hives);
  using Time = std::chrono::steady_clock::time_point;
  /// A fresh one-time token. Errors: kQueueFull when too many are out.
  [[nodiscard]] Result<std::string> make_join_token(Time now);
  struct Joined {
    std::string node_token, node_key;  // what the hive will show, and its SHA-256 in hex
  };
  /// `who` came with a join token, which is used up. Errors: kForbidden.
  [[nodiscard]] Result<Joined> join(const security::Principal& who, const std::string& hive_id,
                                    const std::string& hive_token, Time now);
  /// Whether `who` may speak for the hive: a hive's key only for its own. Errors: kForbidden.
  [[nodiscard]] Status check_speaker(const security::Principal& who, const std::string& hive_id) const;
  /// Whose key it is; empty for the colony's own token.
  [[nodiscard]] static std::string hive_of(const security::Principal& who);
  /// What opens a hive's API and its workers': its own token, else `otherwise`.
  [[nodiscard]] const std::string& token_of(const std::string& hive_id, const std::string& otherwise) const;
  /// The hive's key opens nothing any more.
  void dismiss(const std::string& hive_id);
  /// Writes, or with an empty token removes, the file of a hive's token. Errors: kIo. Any thread.
  [[nodiscard]] Status save(const std::string& hive_id, const std::string& token) const;

 private:
  void admit(const std::string& hive_id, const std::string& raw_hash);
  void expire(Time now);
  security::Authenticator& keys_;
  std::string folder_;
  std::map<std::string, Time> join_tokens_;         // by label: good until
  std::map<std::string, std::string> labels_;       // of hives' keys
  std::map<std::string, std::string> hive_tokens_;  // what opens them
};

}  // namespace llorch::queen
