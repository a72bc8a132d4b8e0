#include "security/auth.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/ids.h"
#include "security/digest.h"
#include "security/validate.h"

namespace llorch::security {
namespace {

constexpr std::size_t kBearerBytesMax = 8u << 10, kUserBytesMax = 128;

bool has_control(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
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
  operator_hashes_.push_back(keys_.back().hash);
}

void Authenticator::dismiss(std::string_view hash) {
  std::erase_if(keys_, [&](const ApiKey& key) { return !key.name.empty() && key.hash == hash; });
}

void Authenticator::share(ApiKey key) {
  unshare(key.hash);
  shared_.push_back(std::move(key));
}

void Authenticator::unshare(std::string_view hash) {
  std::erase_if(shared_, [&](const ApiKey& key) { return key.hash == hash; });
}

Status Authenticator::watch_keys_file(const std::string& path, KeyChange on_change) {
  LLORCH_TRY(keys_file_, KeysFile::open(path));
  keys_file_->on_change(std::move(on_change));
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
  bool named_by_people = false;
  const auto look_in = [&](const std::vector<ApiKey>& keys, bool by_people) {
    for (const ApiKey& key : keys)  // all of them, so that time does not tell which
      if (equal_in_constant_time(key.hash, hash) && !match) match = &key, named_by_people = by_people;
  };
  look_in(keys_, false);
  look_in(shared_, true);
  if (keys_file_) look_in(keys_file_->keys(), true);
  if (!match) {
    const std::string why = explain_ ? explain_(token, hash) : "";
    return fail(ErrorCode::kInvalidApiKey, "{}", why.empty() ? "the API key is not valid" : why);
  }
  const bool is_operator = std::ranges::any_of(operator_hashes_, [&](const auto& h) { return h == match->hash; });
  // Names that people gave say nothing; those of keys that were admitted while the daemon runs say what a key is for.
  return Principal{match->identity(), named_by_people ? "" : match->name, match->scopes, is_operator};
}

Result<Principal> Authenticator::authenticate(const Credentials& given, Time now) {
  if (!required()) return Principal{"local", "", {Scope::kAdmin}};
  if (trust_proxy_ && given.proxy_user && !given.authorization && !given.api_key && is_loopback(given.peer)) {
    const std::string& user = *given.proxy_user;
    if (user.empty() || user.size() > kUserBytesMax || check_display(user))
      return fail(ErrorCode::kInvalidApiKey, "the front proxy's identity header is not a name");
    return Principal{"proxy:" + user, "", {Scope::kInfer}};
  }
  Result<Principal> who = check(given);
  if (who || who.error().code != ErrorCode::kInvalidApiKey) return who;
  const std::string shown = given.authorization.value_or("") + "|" + given.api_key.value_or("");
  if (failures_.add(given.peer, shown, now))
    return fail(ErrorCode::kRateLimited, "too many wrong keys from this address; try again in a minute");
  return who;
}

bool is_loopback(std::string_view address) {
  if (address == "localhost" || address == "::1" || address == "[::1]") return true;
  return address.starts_with("127.") && std::ranges::count(address, '.') == 3 &&
         address.find_first_not_of("0123456789.") == std::string_view::npos;
}

bool host_allowed(std::string_view host_header, std::string_view own, const std::vector<std::string>& allowed) {
  const auto end = host_header.starts_with('[') ? host_header.find(']') + 1 : host_header.find(':');
  const std::string host = lower_case(host_header.substr(0, end));
  return is_loopback(host) || host == lower_case(own) ||
         std::ranges::any_of(allowed, [&](const std::string& name) { return lower_case(name) == host; });
}

}  // namespace llorch::security
