#include "queen/membership.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "base/ids.h"
#include "security/digest.h"
#include "security/validate.h"

namespace llorch::queen {
namespace {

constexpr std::size_t kJoinTokensMax = 100, kHiveIdMax = 64;
constexpr auto kJoinTokenLife = std::chrono::minutes(10);
constexpr std::string_view kJoining = "join", kHive = "hive:";

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
                        const std::map<std::string, HiveRow>& hives) {
  operator_token_ = operator_token, local_id_ = local_id;
  if (operator_token_.empty()) LLORCH_OK(open_local(local_id));
  if (keyless()) return {};
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

void Membership::expire(Time now) {
  std::erase_if(join_tokens_, [&](const auto& entry) {
    if (entry.second.until > now) return false;
    keys_.dismiss(entry.second.hash);
    return true;
  });
}

Result<std::string> Membership::make_join_token(Time now, const std::string& hive_id) {
  expire(now);
  if (join_tokens_.size() >= kJoinTokensMax)
    return fail(ErrorCode::kQueueFull, "{} join tokens are out: wait until they are used or expire", kJoinTokensMax);
  std::string token = "llorch-join-" + random_hex(24);
  security::ApiKey key{security::sha256(token), {security::Scope::kNode}, "", std::string(kJoining)};
  join_tokens_.emplace(key.identity(), JoinToken{now + kJoinTokenLife, key.hash, hive_id});
  keys_.admit(std::move(key));
  return token;
}

Status Membership::check_joining(const security::Principal& who, const std::string& hive_id, bool known) const {
  const auto used = who.name == kJoining ? join_tokens_.find(who.id) : join_tokens_.end();
  if (used == join_tokens_.end())
    return fail(ErrorCode::kForbidden, "joining takes a join token that was not used before");
  if (hive_id == local_id_)
    return fail(ErrorCode::kResourceInUse,
                "the hive of the queen's own machine has this name: give another (--hive-id)");
  if (!used->second.hive_id.empty() && used->second.hive_id != hive_id)
    return fail(ErrorCode::kForbidden, "this join token is for the hive {}", used->second.hive_id);
  if (known && used->second.hive_id.empty())
    return fail(ErrorCode::kResourceInUse,
                "a hive of this name has joined before: invite it by name (llorch hive invite --hive-id {0}), or give "
                "another name",
                hive_id);
  return {};
}

Result<Membership::Joined> Membership::join(const security::Principal& who, const std::string& hive_id,
                                            const std::string& hive_token, Time now) {
  expire(now);
  const auto used = who.name == kJoining ? join_tokens_.find(who.id) : join_tokens_.end();
  if (used == join_tokens_.end())
    return fail(ErrorCode::kForbidden, "joining takes a join token that was not used before");
  keys_.dismiss(used->second.hash);
  join_tokens_.erase(used);
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
