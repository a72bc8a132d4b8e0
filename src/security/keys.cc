#include "security/keys.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <sstream>

#include "base/ids.h"
#include "base/open_file.h"
#include "base/thread_role.h"
#include "security/digest.h"
#include "security/validate.h"

namespace llorch::security {
namespace {

constexpr std::size_t kSecretBytesMax = 1u << 20;
constexpr std::string_view kTokenPrefix = "token:";
constexpr std::size_t kLabelBytes = kTokenPrefix.size() + 6;

std::string line_of(const ApiKey& key) {
  return fmt::format("{} {} {} {}\n", text_of(key.scopes), to_hex(key.hash), key.created, key.name);
}

Result<ApiKey> parse_line(const std::string& line, const std::string& path, int number) {
  std::istringstream parts(line);
  std::string scopes, hash;
  ApiKey key;
  parts >> scopes >> hash >> key.created;
  std::getline(parts, key.name);
  key.name = trimmed(std::move(key.name));
  auto list = parse_scopes(scopes);
  if (!list || check_digest(hash))
    return fail(ErrorCode::kInvalidRequest, "{} line {}: expected '<scope>[,<scope>] <64 hex digits>'", path, number);
  key.scopes = *std::move(list);
  key.hash = from_hex(hash);
  return key;
}

/// Changes the keys while no other process does.
Status edit(const std::string& path, const std::function<Status(std::vector<ApiKey>&)>& change) {
  const int lock = open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0 || flock(lock, LOCK_EX) != 0) {
    if (lock >= 0) close(lock);
    return fail(ErrorCode::kIo, "cannot write beside {}", path);
  }
  const Status done = [&]() -> Status {
    std::vector<ApiKey> keys;
    if (access(path.c_str(), F_OK) == 0) {
      LLORCH_TRY(keys, read_keys(path));
    }
    LLORCH_OK(change(keys));
    std::string text;
    for (const ApiKey& key : keys) text += line_of(key);
    return write_secret_file(path, text);
  }();
  close(lock);
  return done;
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

Result<std::set<Scope>> parse_scopes(std::string_view list) {
  std::set<Scope> scopes;
  std::istringstream words{std::string(list)};
  for (std::string word; std::getline(words, word, ',');) {
    const auto scope = parse_scope(word);
    if (!scope) return fail(ErrorCode::kInvalidRequest, "scopes are infer, metrics, node and admin");
    scopes.insert(*scope);
  }
  if (scopes.empty()) return fail(ErrorCode::kInvalidRequest, "scopes are infer, metrics, node and admin");
  return scopes;
}

std::string text_of(const std::set<Scope>& scopes) {
  std::string out;
  for (const Scope s : scopes) out += (out.empty() ? "" : ",") + std::string(name(s));
  return out;
}

std::string ApiKey::identity() const { return std::string(kTokenPrefix) + to_hex(hash); }
std::string ApiKey::label() const { return label_of(identity()); }
std::string label_of(std::string_view identity) {
  return std::string(identity.substr(0, identity.starts_with(kTokenPrefix) ? kLabelBytes : identity.npos));
}

Result<std::string> read_secret_file(const std::string& path, FileIdentity* identity) {
  auto file = open_regular_file(path);
  if (!file) return fail(file.error().code, "the secret file {} cannot be opened: {}", path, file.error().message);
  if ((file->mode() & 077) != 0)
    return fail(ErrorCode::kInvalidRequest, "the secret file {} must not be accessible to group or others (chmod 600)",
                path);
  if (file->size() > kSecretBytesMax)
    return fail(ErrorCode::kInvalidRequest, "the secret file {} is larger than 1 MiB", path);
  std::string text(file->size(), '\0');
  LLORCH_OK(file->read(0, std::as_writable_bytes(std::span(text))));
  if (identity) *identity = file->identity();
  return trimmed(std::move(text));
}

Status write_secret_file(const std::string& path, std::string_view text) {
  assert_may_block();
  // A file of its own for each writer, made anew: what lies there may be another's, or readable by others.
  const std::string fresh = path + ".new-" + random_hex(6);
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool written = fd >= 0;
  for (std::size_t at = 0; written && at < text.size();) {
    const ssize_t n = write(fd, text.data() + at, text.size() - at);
    if (n < 0 && errno == EINTR) continue;
    written = n > 0;
    at += static_cast<std::size_t>(std::max<ssize_t>(0, n));
  }
  written = written && fsync(fd) == 0;
  if (fd >= 0) close(fd);
  if (written && rename(fresh.c_str(), path.c_str()) == 0) return {};
  if (fd >= 0) unlink(fresh.c_str());
  return fail(ErrorCode::kIo, "cannot write {}", path);
}

Result<std::vector<ApiKey>> read_keys(const std::string& path, FileIdentity* identity) {
  LLORCH_TRY(const std::string text, read_secret_file(path, identity));
  std::vector<ApiKey> keys;
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    LLORCH_TRY(ApiKey key, parse_line(line, path, number));
    keys.push_back(std::move(key));
  }
  return keys;
}

static Status check_name(const std::string& name) {
  if (name.size() > 128 || check_display(name) || name.find_first_of("\t\r\n") != name.npos)
    return fail(ErrorCode::kInvalidRequest, "a key's name is at most 128 bytes of readable text on one line");
  return {};
}

Result<MadeKey> make_key(std::set<Scope> scopes, const std::string& name, const std::vector<ApiKey>& others) {
  LLORCH_OK(check_name(name));
  MadeKey made{"", {{}, std::move(scopes), rfc3339(std::chrono::system_clock::now()), name}};
  const auto taken = [&](const ApiKey& other) { return other.label() == made.key.label(); };
  do {
    made.token = "llorch-" + random_hex(24);
    made.key.hash = sha256(made.token);
  } while (std::ranges::any_of(others, taken));
  return made;
}

Result<ApiKey> find_key(const std::vector<ApiKey>& keys, std::string_view which) {
  const std::string_view digits = which.starts_with("token:") ? which.substr(6) : which;
  const auto fits = [&](const ApiKey& key) {
    return key.name == which || (digits.size() >= 6 && to_hex(key.hash).starts_with(digits));
  };
  const auto count = std::ranges::count_if(keys, fits);
  if (count != 1) return fail(ErrorCode::kInvalidRequest, "{} keys fit: name one by its label or its name", count);
  return *std::ranges::find_if(keys, fits);
}

/// Where it cannot be made, writing the file says so.
static void make_folder_of(const std::string& path) {
  std::error_code problem;
  if (const std::filesystem::path folder = std::filesystem::path(path).parent_path();
      !folder.empty() && std::filesystem::create_directories(folder, problem))
    std::filesystem::permissions(folder, std::filesystem::perms::owner_all, problem);
}

Result<std::string> create_key(const std::string& path, std::set<Scope> scopes, const std::string& name) {
  LLORCH_OK(check_name(name));
  std::string token;
  make_folder_of(path);
  LLORCH_OK(edit(path, [&](std::vector<ApiKey>& keys) -> Status {
    LLORCH_TRY(MadeKey made, make_key(std::move(scopes), name, keys));
    token = std::move(made.token);
    keys.push_back(std::move(made.key));
    return {};
  }));
  return token;
}

Status keep_key(const std::string& path, ApiKey key) {
  make_folder_of(path);
  return edit(path, [&](std::vector<ApiKey>& keys) -> Status {
    if (std::ranges::find(keys, key.hash, &ApiKey::hash) == keys.end()) keys.push_back(std::move(key));
    return {};
  });
}

Result<ApiKey> revoke_key(const std::string& path, std::string_view which) {
  ApiKey gone;
  LLORCH_OK(edit(path, [&](std::vector<ApiKey>& keys) -> Status {
    LLORCH_TRY(gone, find_key(keys, which));
    std::erase_if(keys, [&](const ApiKey& key) { return key.hash == gone.hash; });
    return {};
  }));
  return gone;
}

}  // namespace llorch::security
