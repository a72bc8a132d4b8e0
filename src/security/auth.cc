#include "security/auth.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <regex>

#include "base/ids.h"
#include "security/digest.h"
#include "security/validate.h"

namespace llorch::security {
namespace {

constexpr std::size_t kBearerBytesMax = 8u << 10, kPeersMax = 65'536, kUserBytesMax = 128;
constexpr int kFailuresMax = 10;

bool has_control(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

Result<std::string> parse_bearer(std::string_view header) {
  constexpr std::string_view kScheme = "Bearer ";
  if (header.size() > kBearerBytesMax || !header.starts_with(kScheme) || has_control(header))
    return fail(ErrorCode::kInvalidApiKey, "the Authorization header must be 'Bearer <token>'");
  std::string token = trimmed(std::string(header.substr(kScheme.size())));
  if (token.empty()) return fail(ErrorCode::kInvalidApiKey, "the Authorization header must be 'Bearer <token>'");
  return token;
}

Result<std::optional<std::string>> find_operator_token(const std::string& file, std::string& warning) {
  std::string path = file;
  if (const char* credentials = std::getenv("CREDENTIALS_DIRECTORY"); path.empty() && credentials)
    if (const std::string candidate = std::string(credentials) + "/api-token"; access(candidate.c_str(), F_OK) == 0)
      path = candidate;
  if (const char* named = std::getenv("LLORCH_API_TOKEN_FILE"); path.empty() && named) path = named;
  std::string token;
  if (!path.empty()) {
    LLORCH_TRY(token, read_secret_file(path));
  } else if (const char* value = std::getenv("LLORCH_API_TOKEN")) {
    token = trimmed(value);
    warning = "the token comes from the environment, where other programs of this user can read it; prefer a file";
  } else {
    return std::nullopt;
  }
  if (token.size() < kTokenBytesMin)
    return fail(ErrorCode::kInvalidRequest, "the token must have at least {} characters", kTokenBytesMin);
  return token;
}

void Authenticator::add_token(std::string_view token, std::set<Scope> scopes) {
  keys_.push_back({sha256(token), std::move(scopes), "", ""});
}

void Authenticator::dismiss(std::string_view label) {
  std::erase_if(keys_, [&](const ApiKey& key) { return !key.name.empty() && key.label() == label; });
}

Status Authenticator::watch_keys_file(const std::string& path, KeyChange on_change) {
  keys_file_ = path;
  if (access(path.c_str(), F_OK) == 0) LLORCH_OK(read_keys_file());
  on_key_ = std::move(on_change);
  return {};
}

Status Authenticator::read_keys_file() {
  struct stat info {};
  const bool there = stat(keys_file_.c_str(), &info) == 0;
  const FileState state = there ? FileState{info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec}
                                : FileState{};  // a file that is gone admits nobody
  if (state == keys_file_state_) return {};
  keys_file_state_ = state;
  std::vector<ApiKey> fresh;
  if (there) {
    LLORCH_TRY(fresh, read_keys(keys_file_));
  }
  const auto lacks = [](const std::vector<ApiKey>& keys, const ApiKey& k) {
    return std::ranges::none_of(keys, [&](const ApiKey& other) { return other.hash == k.hash; });
  };
  if (on_key_) {
    for (const ApiKey& k : fresh)
      if (lacks(file_keys_, k)) on_key_("token_created", k.label(), text_of(k.scopes));
    for (const ApiKey& k : file_keys_)
      if (lacks(fresh, k)) on_key_("token_revoked", k.label(), text_of(k.scopes));
  }
  file_keys_ = std::move(fresh);
  return {};
}

Result<Principal> Authenticator::check(const Credentials& given) const {
  if (!given.authorization && !given.api_key)
    return fail(ErrorCode::kMissingApiKey, "this server requires an API key: 'Authorization: Bearer <key>'");
  std::string token;
  if (given.authorization) {
    LLORCH_TRY(token, parse_bearer(*given.authorization));
  }
  if (given.api_key) {
    const std::string other = trimmed(*given.api_key);
    if (given.authorization && other != token)
      return fail(ErrorCode::kInvalidApiKey, "Authorization and x-api-key differ");
    token = other;
  }
  const std::string hash = sha256(token);
  const ApiKey* match = nullptr;
  for (const auto* keys : {&keys_, &file_keys_})
    for (const ApiKey& key : *keys)  // all of them, so that time does not tell which
      if (equal_in_constant_time(key.hash, hash)) match = &key;
  if (!match) return fail(ErrorCode::kInvalidApiKey, "the API key is not valid");
  return Principal{match->label(), match->name, match->scopes};
}

Result<Principal> Authenticator::authenticate(const Credentials& given, Time now) {
  if (!required()) return Principal{"local", "", {Scope::kAdmin}};
  if (!keys_file_.empty())
    if (const Status read = read_keys_file(); !read && on_key_)
      on_key_("integrity_violation", "", read.error().message);  // those of before stay
  const std::string peer(given.peer);
  auto it = failures_.find(peer);
  if (it != failures_.end() && now - it->second.since > std::chrono::minutes(1))
    failures_.erase(it), it = failures_.end();
  if (it != failures_.end() && it->second.count >= kFailuresMax)
    return fail(ErrorCode::kRateLimited, "too many failed attempts from this address; try again in a minute");
  if (trust_proxy_ && given.proxy_user && !given.authorization && !given.api_key && is_loopback(given.peer)) {
    const std::string& user = *given.proxy_user;
    if (user.empty() || user.size() > kUserBytesMax || check_display(user))
      return fail(ErrorCode::kInvalidApiKey, "the front proxy's identity header is not a name");
    return Principal{"proxy:" + user, "", {Scope::kInfer}};
  }
  Result<Principal> who = check(given);
  if (!who && who.error().code == ErrorCode::kInvalidApiKey && failures_.size() < kPeersMax) {
    Failures& f = failures_.try_emplace(peer, Failures{now, 0}).first->second;
    ++f.count;
  }
  return who;
}

bool is_loopback(std::string_view address) {
  if (address == "localhost" || address == "::1" || address == "[::1]") return true;
  return address.starts_with("127.") && std::ranges::count(address, '.') == 3 &&
         address.find_first_not_of("0123456789.") == std::string_view::npos;
}

bool host_allowed(std::string_view host, std::string_view own, const std::vector<std::string>& allowed) {
  if (host.starts_with('['))
    host = host.substr(0, host.find(']') + 1);
  else
    host = host.substr(0, host.find(':'));
  return is_loopback(host) || host == own || std::ranges::find(allowed, host) != allowed.end();
}

std::string redact(std::string_view text) {
  static const std::regex kSecrets(
      R"((Bearer\s+)[^\s"']+|((?:api[_-]?key|token|secret|password)["']?\s*[=:]\s*["']?)[^\s"',;&]+|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----|(://[^/\s:@]+:)[^@\s/]+(?=@))",
      std::regex::icase | std::regex::optimize);
  return std::regex_replace(std::string(text.substr(0, 8192)), kSecrets, "$1$2$3[REDACTED]");
}

std::string without_figures(std::string_view text) {
  static const std::regex kAmounts(R"(\b[0-9][0-9.,']*( ?)([kMGT]i?B|bytes)\b)", std::regex::optimize);
  return std::regex_replace(std::string(text.substr(0, 8192)), kAmounts, "...$1$2");
}

}  // namespace llorch::security
