#include "security/auth.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <regex>
#include <sstream>

#include "base/ids.h"
#include "security/digest.h"

namespace llorch::security {
namespace {

constexpr std::size_t kBearerBytesMax = 8u << 10, kSecretBytesMax = 1u << 20, kPeersMax = 65'536;
constexpr int kFailuresMax = 10;

std::string trimmed(std::string text) {
  while (!text.empty() && std::string_view(" \t\r\n").contains(text.back())) text.pop_back();
  text.erase(0, std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  return text;
}

bool has_control(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

std::string_view name(Scope scope) {
  static constexpr std::string_view kNames[] = {"public", "metrics", "infer", "node", "admin"};
  return kNames[static_cast<std::size_t>(scope)];
}

std::optional<Scope> parse_scope(std::string_view text) {
  for (const Scope s : {Scope::kMetrics, Scope::kInfer, Scope::kNode, Scope::kAdmin})
    if (name(s) == text) return s;
  return std::nullopt;
}

Result<std::string> parse_bearer(std::string_view header) {
  constexpr std::string_view kScheme = "Bearer ";
  if (header.size() > kBearerBytesMax || !header.starts_with(kScheme) || has_control(header))
    return fail(ErrorCode::kInvalidApiKey, "the Authorization header must be 'Bearer <token>'");
  std::string token = trimmed(std::string(header.substr(kScheme.size())));
  if (token.empty()) return fail(ErrorCode::kInvalidApiKey, "the Authorization header must be 'Bearer <token>'");
  return token;
}

Result<std::string> read_secret_file(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(ErrorCode::kIo, "the secret file {} cannot be opened", path);
  struct stat info {};
  Status bad;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
    bad = fail(ErrorCode::kInvalidRequest, "the secret {} is not a regular file", path);
  else if ((info.st_mode & 077) != 0)
    bad = fail(ErrorCode::kInvalidRequest, "the secret file {} must not be accessible to group or others (chmod 600)",
               path);
  else if (static_cast<std::size_t>(info.st_size) > kSecretBytesMax)
    bad = fail(ErrorCode::kInvalidRequest, "the secret file {} is larger than 1 MB", path);
  std::string text(bad ? static_cast<std::size_t>(info.st_size) : 0, '\0');
  const ssize_t n = bad ? read(fd, text.data(), text.size()) : 0;
  close(fd);
  LLORCH_OK(std::move(bad));
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return trimmed(std::move(text));
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
  keys_.push_back({sha256(token), std::move(scopes)});
}

Status Authenticator::add_keys_file(const std::string& path) {
  LLORCH_TRY(const std::string text, read_secret_file(path));
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    const auto bad = [&] {
      return fail(ErrorCode::kInvalidRequest, "{} line {}: expected '<scope>[,<scope>] <64 hex digits>'", path, number);
    };
    std::istringstream parts(line);
    std::string scopes, hash;
    parts >> scopes >> hash;
    Key key;
    std::istringstream list(scopes);
    for (std::string word; std::getline(list, word, ',');) {
      const auto scope = parse_scope(word);
      if (!scope) return bad();
      key.scopes.insert(*scope);
    }
    if (hash.size() != 64 || hash.find_first_not_of("0123456789abcdef") != std::string::npos || key.scopes.empty())
      return bad();
    for (std::size_t i = 0; i < 64; i += 2) key.hash += static_cast<char>(std::stoi(hash.substr(i, 2), nullptr, 16));
    keys_.push_back(std::move(key));
  }
  return {};
}

Result<Principal> Authenticator::check(const std::optional<std::string>& authorization,
                                       const std::optional<std::string>& api_key) const {
  if (!authorization && !api_key)
    return fail(ErrorCode::kMissingApiKey, "this server requires an API key: 'Authorization: Bearer <key>'");
  std::string token;
  if (authorization) {
    LLORCH_TRY(token, parse_bearer(*authorization));
  }
  if (api_key) {
    const std::string other = trimmed(*api_key);
    if (authorization && other != token) return fail(ErrorCode::kInvalidApiKey, "Authorization and x-api-key differ");
    token = other;
  }
  const std::string hash = sha256(token);
  const Key* match = nullptr;
  for (const Key& key : keys_)  // all of them, so that time does not tell which
    if (equal_in_constant_time(key.hash, hash)) match = &key;
  if (!match) return fail(ErrorCode::kInvalidApiKey, "the API key is not valid");
  return Principal{"token:" + to_hex(hash).substr(0, 6), match->scopes};
}

Result<Principal> Authenticator::authenticate(std::optional<std::string> authorization,
                                              std::optional<std::string> api_key, std::string_view peer, Time now) {
  if (keys_.empty()) return Principal{"local", {Scope::kAdmin}};
  auto it = failures_.find(std::string(peer));
  if (it != failures_.end() && now - it->second.since > std::chrono::minutes(1))
    failures_.erase(it), it = failures_.end();
  if (it != failures_.end() && it->second.count >= kFailuresMax)
    return fail(ErrorCode::kRateLimited, "too many failed attempts from this address; try again in a minute");
  Result<Principal> who = check(authorization, api_key);
  if (!who && who.error().code == ErrorCode::kInvalidApiKey && failures_.size() < kPeersMax) {
    Failures& f = failures_.try_emplace(std::string(peer), Failures{now, 0}).first->second;
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

}  // namespace llorch::security
