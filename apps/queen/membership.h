// Who speaks for a hive, and what opens it (S-07, Q-12).
//
// A hive is believed when it shows one of three keys: the operator's token; a key of its own, which it got when it
// joined with a one-time token; or, at a queen without an operator's token, the key that this queen hands to the hive
// that she starts (by its environment; `llorch hive start` reads it from a file of mode 0600). What the queen sends to
// a hive is the token that belongs to the key that it showed, never another one. A join token is good once, for ten
// minutes, also after a restart: hashes of those that are out are kept in a file. Whoever shows one that was used or
// has expired is told so. Only hashes of hives' keys are in the catalog. Threads: the event loop's, but open() and the
// functions that save.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "queen/catalog.h"
#include "security/auth.h"
#include "security/certificate.h"

namespace llorch::queen {

class Membership {
 public:
  /// `folder`: the queen's data directory.
  Membership(security::Authenticator& keys, std::string folder) : keys_(keys), folder_(std::move(folder)) {}
  ~Membership() { keys_.explain_refusals({}); }
  Membership(const Membership&) = delete;
  Membership& operator=(const Membership&) = delete;

  using Time = security::CertificateTime;  // of the wall clock, which goes on while she is not there
  /// Admits the keys of the catalog's hives and the join tokens that are out, and reads the tokens that open hives.
  /// Without an operator's token, reads or makes the key of this machine's hive, `local_id`. Errors: those of secret
  /// files.
  [[nodiscard]] Status open(const std::string& operator_token, const std::string& local_id,
                            const std::map<std::string, HiveRow>& hives, Time now = security::now_in_seconds());
  /// A fresh one-time token, for the hive of that name or, where it is empty, for one that the colony does not know.
  /// Errors: kQueueFull when too many are out.
  [[nodiscard]] Result<std::string> make_join_token(Time now, const std::string& hive_id = {});
  struct Joined {
    std::string node_token, node_key;  // what the hive will show, and its SHA-256 in hex
  };
  /// Whether `who` came with a join token that is good for this hive, which may have joined before (`known`). Errors:
  /// kForbidden, kResourceInUse.
  [[nodiscard]] Status check_joining(const security::Principal& who, const std::string& hive_id, bool known, Time now);
  /// Whether `who` came with a join token for the hive of that name.
  [[nodiscard]] bool invited_by_name(const security::Principal& who, const std::string& hive_id) const {
    const auto it = join_tokens_.find(who.id);
    return who.name == "join" && it != join_tokens_.end() && it->second.hive_id == hive_id;
  }
  /// `who` came with a join token, which is used up. Errors: kForbidden.
  [[nodiscard]] Result<Joined> join(const security::Principal& who, const std::string& hive_id,
                                    const std::string& hive_token, Time now);

  /// Who sends a report: what the router made of its key, and the Authorization header itself.
  struct Speaker {
    const security::Principal& who;
    std::string authorization;
  };
  /// Whether it may speak for the hive. Errors: kForbidden.
  [[nodiscard]] Status check_speaker(const Speaker& speaker, const std::string& hive_id) const;
  /// What opens the API of a hive, and of its workers, for which `speaker` may speak; empty: it needs nothing. Errors:
  /// kForbidden when that is not known any more: the hive must join again.
  [[nodiscard]] Result<std::string> token_for(const Speaker& speaker, const std::string& hive_id) const;
  /// What opens a hive that has joined, as it is kept; empty: that is not known.
  [[nodiscard]] std::string kept_token(const std::string& hive_id) const;
  /// What another queen has made of a hive that joined there: whose key (SHA-256, hex) speaks for it, and what opens
  /// it.
  void learn(const std::string& hive_id, const std::string& node_key, const std::string& hive_token);
  /// Whose key it is; empty for the operator's token.
  [[nodiscard]] static std::string hive_of(const security::Principal& who);
  /// Whether it must show a certificate besides its key where the colony has an authority: all hives that have joined.
  [[nodiscard]] bool has_joined(const security::Principal& who) const {
    return !hive_of(who).empty() && who.id != local_identity_;
  }
  /// Whether it came with a join token.
  [[nodiscard]] static bool is_joining(const security::Principal& who) { return who.name == "join"; }
  /// What the hive that this queen starts shows her: the variable and its value.
  [[nodiscard]] std::pair<std::string, std::string> local_hive_variable() const;
  /// Whether requests to this machine's hive need a key.
  [[nodiscard]] bool keyless() const { return !keys_.required(); }
  /// The hive's key opens nothing any more.
  void dismiss(const std::string& hive_id);
  /// What save_invitations() is to keep now.
  [[nodiscard]] std::string invitations() const;
  /// A join token counts when this has kept it. Errors: kIo. Any thread.
  [[nodiscard]] Status save_invitations(const std::string& text) const;
  /// Writes, or with an empty token removes, the file of a hive's token. Errors: kIo, kInvalidRequest. Any thread.
  [[nodiscard]] Status save(const std::string& hive_id, const std::string& token) const;

 private:
  void admit(const std::string& hive_id, const std::string& raw_hash);
  void expire(Time now);
  [[nodiscard]] Status open_local(const std::string& local_id);
  void open_invitations(Time now);
  /// "": nothing is known of such a token.
  [[nodiscard]] std::string why_refused(std::string_view token, const std::string& identity) const;
  /// Errors: kInvalidRequest for an id that is no file's name.
  [[nodiscard]] Result<std::string> file_of(const std::string& hive_id) const;

  security::Authenticator& keys_;
  std::string folder_, operator_token_, local_id_;
  std::string local_key_, local_identity_;  // without an operator's token only
  struct JoinToken {
    enum class State { kOpen, kUsed, kExpired };
    Time until;
    std::string hash, hive_id;
    State state = State::kOpen;
  };
  /// Null where it is none, or not open.
  [[nodiscard]] JoinToken* find_open(const security::Principal& who);
  void admit_join_token(JoinToken token);
  std::map<std::string, JoinToken> join_tokens_;    // by the key's identity; for a while also those that open nothing
  std::map<std::string, std::string> hashes_;       // of hives' keys
  std::map<std::string, std::string> hive_tokens_;  // what opens them
};

}  // namespace llorch::queen
