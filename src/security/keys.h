// API keys besides the operator's token, in a file that holds only their hashes (S-03).
//
// A line is "<scope>[,<scope>] <SHA-256, 64 hex digits> [<created, RFC 3339> [<name>]]"; "#" begins a comment. The file
// is replaced as a whole, so that a daemon reads either the old or the new one. Threads: any; other processes too.
// Errors: kIo; kInvalidRequest naming the line; none repeats a key.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/open_file.h"
#include "base/result.h"

namespace llorch::security {

enum class Scope { kPublic, kMetrics, kInfer, kNode, kAdmin };
[[nodiscard]] std::string_view name(Scope scope);
[[nodiscard]] std::optional<Scope> parse_scope(std::string_view text);
/// "infer,metrics". Errors: kInvalidRequest for an unknown or empty list.
[[nodiscard]] Result<std::set<Scope>> parse_scopes(std::string_view list);
[[nodiscard]] std::string text_of(const std::set<Scope>& scopes);

struct ApiKey {
  std::string hash;  // 32 raw bytes
  std::set<Scope> scopes;
  std::string created, name;
  /// "token:" and the whole hash in hex: no two keys share it.
  [[nodiscard]] std::string identity() const;
  /// "token:" and the first 6 hex digits of the hash: how logs, narration and audit name it (S-04).
  [[nodiscard]] std::string label() const;
};
/// How people see a principal: the label of a key's identity, any other as it is.
[[nodiscard]] std::string label_of(std::string_view identity);

/// A secret out of a file: regular, not readable by others, at most 1 MB; white space at both ends removed.
/// `identity`, where wanted: of the file that was read.
[[nodiscard]] Result<std::string> read_secret_file(const std::string& path, FileIdentity* identity = nullptr);
/// Replaces a file of mode 0600 as a whole.
[[nodiscard]] Status write_secret_file(const std::string& path, std::string_view text);
[[nodiscard]] Result<std::vector<ApiKey>> read_keys(const std::string& path, FileIdentity* identity = nullptr);
struct MadeKey {
  std::string token;  // the key itself
  ApiKey key;
};
/// A fresh key, with a label that none of `others` has, kept nowhere. Errors: kInvalidRequest for a name.
[[nodiscard]] Result<MadeKey> make_key(std::set<Scope> scopes, const std::string& name,
                                       const std::vector<ApiKey>& others);
/// The one key that `which` fits: a label, the first hex digits of the hash (6 or more), or a name. Errors:
/// kInvalidRequest.
[[nodiscard]] Result<ApiKey> find_key(const std::vector<ApiKey>& keys, std::string_view which);
/// Makes a key, with a label that no other one there has, and notes its hash. Returns the key itself, which is nowhere
/// else.
[[nodiscard]] Result<std::string> create_key(const std::string& path, std::set<Scope> scopes, const std::string& name);
/// Notes a key that was made elsewhere; one that is there already stays as it is.
[[nodiscard]] Status keep_key(const std::string& path, ApiKey key);
/// `which`: as find_key().
[[nodiscard]] Result<ApiKey> revoke_key(const std::string& path, std::string_view which);

}  // namespace llorch::security
