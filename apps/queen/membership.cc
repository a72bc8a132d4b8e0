#include "queen/membership.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "base/ids.h"
#include "security/digest.h"
#include "security/validate.h"
#include "service/log.h"

namespace llorch::queen {
namespace {

constexpr std::size_t kJoinTokensMax = 100, kHiveIdMax = 64;
constexpr std::chrono::seconds kJoinTokenLife = std::chrono::minutes(10);
constexpr std::chrono::seconds kSpentKept = std::chrono::hours(1);  // so long it is told what became of a join token
constexpr std::int64_t kUntilMax = std::int64_t{1} << 40;  // seconds: far beyond any clock, far from an overflow
constexpr std::string_view kJoining = "join", kHive = "hive:", kJoinTokenPrefix = "llorch-join-";

}  // namespace

void Membership::admit(const std::string& hive_id, const std::string& raw_hash) {
  security::ApiKey key{raw_hash, {security::Scope::kNode}, "", std::string(kHive) + hive_id};
  if (!local_key_.empty() && hive_id == local_id_) local_identity_ = key.identity();
  hashes_[hive_id] = key.hash;
  keys_.admit(std::move(key));
}

Result<std::string> Membership::file_of(const std::string& hive_id) const {
  if (const auto flaw = security::check_identifier(hive_id, kHiveIdMax))
    return fail(ErrorCode::kInvalidRequest, "the name of a hive {}", security::describe(*flaw));
  return folder_ + "/hive-tokens/" + hive_id;
}

Status Membership::open(const std::string& operator_token, const std::string& local_id,
                        const std::map<std::string, HiveRow>& hives, Time now) {
  operator_token_ = operator_token, local_id_ = local_id;
  if (operator_token_.empty()) LLORCH_OK(open_local(local_id));
  if (keyless()) return {};
  keys_.explain_refusals([this](std::string_view key, const std::string& hash) {
    return why_refused(key, security::ApiKey{hash, {}, "", ""}.identity());
  });
  open_invitations(now);
  for (const auto& [id, row] : hives) {
    const auto file = file_of(id);
    if (row.node_key.empty() || !file) continue;
    admit(id, from_hex(row.node_key));
    if (access(file->c_str(), F_OK) != 0) continue;  // it will be asked to join again
    LLORCH_TRY(hive_tokens_[id], security::read_secret_file(*file));
  }
  return {};
}

/// The key is kept, so that a hive which was started by hand is believed by the next queen too.
Status Membership::open_local(const std::string& local_id) {
  const std::string file = folder_ + "/node-token";
  if (access(file.c_str(), F_OK) == 0) {
    LLORCH_TRY(local_key_, security::read_secret_file(file));
  }
  if (local_key_.size() < security::kTokenBytesMin) {
    local_key_ = "llorch-node-" + random_hex(24);
    LLORCH_OK(security::write_secret_file(file, local_key_));
  }
  if (keyless()) return {};
  // Keys, but none of an operator: the hive is opened by what it shows.
  admit(local_id, security::sha256(local_key_));
  hive_tokens_[local_id] = local_key_;
  return {};
}

/// Lines "<SHA-256 in hex> <seconds since 1970 until which it is good> <open, used or expired> [<hive>]".
std::string Membership::invitations() const {
  constexpr std::string_view kStates[] = {"open", "used", "expired"};
  std::string text;
  for (const auto& [identity, t] : join_tokens_)
    text += fmt::format("{} {} {} {}\n", to_hex(t.hash), t.until.time_since_epoch().count(),
                        kStates[static_cast<std::size_t>(t.state)], t.hive_id);
  return text;
}

Status Membership::save_invitations(const std::string& text) const {
  return security::write_secret_file(folder_ + "/invitations", text);
}

/// A damaged file costs the invitations that were out, not the queen's start.
void Membership::open_invitations(Time now) {
  const std::string file = folder_ + "/invitations";
  if (access(file.c_str(), F_OK) != 0) return;
  const auto text = security::read_secret_file(file);
  if (!text) return service::log(service::Level::kWarn, "invitations_lost", text.error().message);
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash, state, hive_id;
    std::int64_t until = 0;
    if (!(words >> hash >> until >> state) || from_hex(hash).size() != 32 || until < 0 || until > kUntilMax) {
      service::log(service::Level::kWarn, "invitations_lost", fmt::format("{}: a line is no invitation", file));
      continue;
    }
    words >> hive_id;
    using State = JoinToken::State;
    admit_join_token({Time(std::chrono::seconds(until)), from_hex(hash), hive_id,
                      state == "open"   ? State::kOpen
                      : state == "used" ? State::kUsed
                                        : State::kExpired});
  }
  expire(now);
}

void Membership::admit_join_token(JoinToken token) {
  security::ApiKey key{token.hash, {security::Scope::kNode}, "", std::string(kJoining)};
  const bool opens = token.state == JoinToken::State::kOpen;
  join_tokens_.insert_or_assign(key.identity(), std::move(token));
  if (opens) keys_.admit(std::move(key));
}

/// One that would be good for longer than any was made before the clock was set back.
void Membership::expire(Time now) {
  for (auto& [identity, t] : join_tokens_)
    if (t.state == JoinToken::State::kOpen && (t.until <= now || t.until > now + kJoinTokenLife)) {
      t.state = JoinToken::State::kExpired;
      keys_.dismiss(t.hash);
    }
  std::erase_if(join_tokens_, [&](const auto& entry) {
    return entry.second.state != JoinToken::State::kOpen && entry.second.until + kSpentKept <= now;
  });
}

std::string Membership::why_refused(std::string_view token, const std::string& identity) const {
  const auto it = join_tokens_.find(identity);
  if (it != join_tokens_.end() && it->second.state == JoinToken::State::kUsed)
    return "this join token was used already: `llorch hive invite` makes another";
  if (it != join_tokens_.end())
    return "this join token has expired, ten minutes after it was made: `llorch hive invite` makes another";
  if (token.starts_with(kJoinTokenPrefix))
    return "this join token is not known here: it is another colony's, or was made long ago";
  return "";
}

Result<std::string> Membership::make_join_token(Time now, const std::string& hive_id) {
  expire(now);
  const auto out = static_cast<std::size_t>(std::ranges::count_if(
      join_tokens_, [](const auto& entry) { return entry.second.state == JoinToken::State::kOpen; }));
  if (out >= kJoinTokensMax)
    return fail(ErrorCode::kQueueFull, "{} join tokens are out: wait until they are used or expire", kJoinTokensMax);
  std::string token = std::string(kJoinTokenPrefix) + random_hex(24);
  admit_join_token({now + kJoinTokenLife, security::sha256(token), hive_id, JoinToken::State::kOpen});
  return token;
}

Membership::JoinToken* Membership::find_open(const security::Principal& who) {
  const auto it = who.name == kJoining ? join_tokens_.find(who.id) : join_tokens_.end();
  return it == join_tokens_.end() || it->second.state != JoinToken::State::kOpen ? nullptr : &it->second;
}

Status Membership::check_joining(const security::Principal& who, const std::string& hive_id, bool known, Time now) {
  expire(now);
  const JoinToken* token = find_open(who);
  if (!token) {
    const std::string why = who.name == kJoining ? why_refused("", who.id) : "";
    return fail(ErrorCode::kForbidden, "{}", why.empty() ? "joining takes a join token that was not used before" : why);
  }
  if (hive_id == local_id_)
    return fail(ErrorCode::kResourceInUse,
                "the hive of the queen's own machine has this name: give another (--hive-id)");
  if (!token->hive_id.empty() && token->hive_id != hive_id)
    return fail(ErrorCode::kForbidden, "this join token is for the hive {}", token->hive_id);
  if (known && token->hive_id.empty())
    return fail(ErrorCode::kResourceInUse,
                "a hive of this name has joined before: invite it by name (llorch hive invite --hive-id {0}), or give "
                "another name",
                hive_id);
  return {};
}

Result<Membership::Joined> Membership::join(const security::Principal& who, const std::string& hive_id,
                                            const std::string& hive_token, Time now) {
  expire(now);
  JoinToken* token = find_open(who);
  if (!token) return fail(ErrorCode::kForbidden, "joining takes a join token that was not used before");
  keys_.dismiss(token->hash);
  token->state = JoinToken::State::kUsed;
  dismiss(hive_id);
  Joined joined{"llorch-node-" + random_hex(24), ""};
  const std::string hash = security::sha256(joined.node_token);
  joined.node_key = to_hex(hash);
  admit(hive_id, hash);
  hive_tokens_[hive_id] = hive_token;
  return joined;
}

Status Membership::check_speaker(const Speaker& speaker, const std::string& hive_id) const {
  if (keyless()) {
    const auto shown = security::parse_bearer(speaker.authorization);
    if (shown && security::equal_in_constant_time(*shown, local_key_)) return {};
    return fail(ErrorCode::kForbidden,
                "a queen without keys believes the hives that she or `llorch hive start` has started, and no others");
  }
  const security::Principal& who = speaker.who;
  if (who.is_operator) return {};
  if (who.name == kJoining) return fail(ErrorCode::kForbidden, "a join token is for joining only");
  if (who.name == std::string(kHive) + hive_id) return {};
  if (who.name.starts_with(kHive)) return fail(ErrorCode::kForbidden, "this key belongs to another hive");
  return fail(ErrorCode::kForbidden, "this key belongs to no hive: the hive must join again, with a join token");
}

Result<std::string> Membership::token_for(const Speaker& speaker, const std::string& hive_id) const {
  if (keyless()) return "";
  if (speaker.who.is_operator) return operator_token_;
  if (const auto it = hive_tokens_.find(hive_id); it != hive_tokens_.end()) return it->second;
  return fail(ErrorCode::kForbidden,
              "the token that opens this hive is not known here any more: it must join again, with a join token");
}

std::string Membership::kept_token(const std::string& hive_id) const {
  if (const auto it = hive_tokens_.find(hive_id); it != hive_tokens_.end()) return it->second;
  const auto file = file_of(hive_id);
  if (!file || access(file->c_str(), F_OK) != 0) return "";
  return security::read_secret_file(*file).value_or("");
}

void Membership::learn(const std::string& hive_id, const std::string& node_key, const std::string& hive_token) {
  dismiss(hive_id);
  if (const std::string hash = from_hex(node_key); !hash.empty()) admit(hive_id, hash);
  if (!hive_token.empty()) hive_tokens_[hive_id] = hive_token;
}

std::string Membership::hive_of(const security::Principal& who) {
  return who.name.starts_with(kHive) ? who.name.substr(kHive.size()) : "";
}

std::pair<std::string, std::string> Membership::local_hive_variable() const {
  if (!operator_token_.empty()) return {"LLORCH_API_TOKEN", operator_token_};
  return {keyless() ? "LLORCH_NODE_TOKEN" : "LLORCH_API_TOKEN", local_key_};
}

void Membership::dismiss(const std::string& hive_id) {
  if (const auto it = hashes_.find(hive_id); it != hashes_.end()) {
    keys_.dismiss(it->second);
    hashes_.erase(it);
  }
  hive_tokens_.erase(hive_id);
}

Status Membership::save(const std::string& hive_id, const std::string& token) const {
  LLORCH_TRY(const std::string file, file_of(hive_id));
  std::error_code problem;
  if (token.empty()) {
    std::filesystem::remove(file, problem);
    return {};
  }
  std::filesystem::create_directories(folder_ + "/hive-tokens", problem);
  return security::write_secret_file(file, token);
}

}  // namespace llorch::queen
