#include "queen/membership.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "base/ids.h"
#include "security/digest.h"

namespace llorch::queen {
namespace {

constexpr std::size_t kJoinTokensMax = 100;
constexpr auto kJoinTokenLife = std::chrono::minutes(10);
constexpr std::string_view kJoining = "join", kHive = "hive:";

}  // namespace

void Membership::admit(const std::string& hive_id, const std::string& raw_hash) {
  security::ApiKey key{raw_hash, {security::Scope::kNode}, "", std::string(kHive) + hive_id};
  labels_[hive_id] = key.label();
  keys_.admit(std::move(key));
}

Status Membership::load(const std::map<std::string, HiveRow>& hives) {
  for (const auto& [id, row] : hives) {
    if (row.node_key.empty()) continue;
    admit(id, from_hex(row.node_key));
    const std::string file = folder_ + "/" + id;
    if (access(file.c_str(), F_OK) != 0) continue;
    LLORCH_TRY(hive_tokens_[id], security::read_secret_file(file));
  }
  return {};
}

void Membership::expire(Time now) {
  std::erase_if(join_tokens_, [&](const auto& entry) {
    if (entry.second > now) return false;
    keys_.dismiss(entry.first);
    return true;
  });
}

Result<std::string> Membership::make_join_token(Time now) {
  expire(now);
  if (join_tokens_.size() >= kJoinTokensMax)
    return fail(ErrorCode::kQueueFull, "{} join tokens are out: wait until they are used or expire", kJoinTokensMax);
  std::string token = "llorch-join-" + random_hex(24);
  security::ApiKey key{security::sha256(token), {security::Scope::kNode}, "", std::string(kJoining)};
  join_tokens_[key.label()] = now + kJoinTokenLife;
  keys_.admit(std::move(key));
  return token;
}

Result<Membership::Joined> Membership::join(const security::Principal& who, const std::string& hive_id,
                                            const std::string& hive_token, Time now) {
  expire(now);
  if (who.name != kJoining || !join_tokens_.erase(who.id))
    return fail(ErrorCode::kForbidden, "joining takes a join token that was not used before");
  keys_.dismiss(who.id);
  dismiss(hive_id);
  Joined joined{"llorch-node-" + random_hex(24), ""};
  const std::string hash = security::sha256(joined.node_token);
  joined.node_key = to_hex(hash);
  admit(hive_id, hash);
  hive_tokens_[hive_id] = hive_token;
  return joined;
}

Status Membership::check_speaker(const security::Principal& who, const std::string& hive_id) const {
  if (who.name == kJoining) return fail(ErrorCode::kForbidden, "a join token is for joining only");
  if (who.name.starts_with(kHive) && who.name.substr(kHive.size()) != hive_id)
    return fail(ErrorCode::kForbidden, "this key belongs to another hive");
  return {};
}

std::string Membership::hive_of(const security::Principal& who) {
  return who.name.starts_with(kHive) ? who.name.substr(kHive.size()) : "";
}

const std::string& Membership::token_of(const std::string& hive_id, const std::string& otherwise) const {
  const auto it = hive_tokens_.find(hive_id);
  return it == hive_tokens_.end() ? otherwise : it->second;
}

void Membership::dismiss(const std::string& hive_id) {
  if (const auto it = labels_.find(hive_id); it != labels_.end()) {
    keys_.dismiss(it->second);
    labels_.erase(it);
  }
  hive_tokens_.erase(hive_id);
}

Status Membership::save(const std::string& hive_id, const std::string& token) const {
  std::error_code problem;
  const std::string file = folder_ + "/" + hive_id;
  if (token.empty()) {
    std::filesystem::remove(file, problem);
    return {};
  }
  std::filesystem::create_directories(folder_, problem);
  return security::write_secret_file(file, token);
}

}  // namespace llorch::queen
