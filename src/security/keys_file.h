// A keys file that is read again whenever it may have changed: a key that was revoked by hand is refused from the next
// request on (S-03).
//
// What is compared is device, inode, size, time of modification and of change; a file that was changed within the last
// second is read at every look, because two changes may carry the same time. It fails closed: while the file cannot be
// read as a whole, none of its keys is admitted, and that is told. On a local file system looking costs a stat() on the
// caller's thread, which reads up to 64 KiB (some hundreds of keys). Where the file is larger, or its file system can
// hang (NFS, FUSE and the like), a thread looks twice a second, and keys are refused when it has not come back for five
// seconds. Threads: one, besides its own.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "security/keys.h"

namespace llorch::security {

/// `event`: token_created, token_revoked, or integrity_violation with the reason in place of scopes.
using KeyChange =
    std::function<void(std::string_view event, const std::string& label, const std::string& scopes_or_reason)>;

enum class KeysFileMode {
  kBySystem,  // as the file system asks for
  kOwnThread
};

class KeysFile {
 public:
  /// A file that is not there admits nobody. Errors: those of read_keys().
  [[nodiscard]] static Result<std::unique_ptr<KeysFile>> open(const std::string& path,
                                                              KeysFileMode mode = KeysFileMode::kBySystem);
  ~KeysFile();
  KeysFile(const KeysFile&) = delete;
  KeysFile& operator=(const KeysFile&) = delete;

  void on_change(KeyChange tell) { tell_ = std::move(tell); }
  /// The keys that the file admits now.
  [[nodiscard]] const std::vector<ApiKey>& keys();

 private:
  struct Look {
    FileIdentity state{.size = -1};  // there is no file
    bool settled = false;            // a change from now on would show in the state
    std::vector<ApiKey> keys;
    std::optional<Error> problem;
  };
  struct Poller;
  explicit KeysFile(std::string path);
  void start_poller();
  /// Nothing when the file is as it was at `before`. Any thread.
  [[nodiscard]] static std::optional<Look> look(const std::string& path, const Look& before);
  void take(Look fresh);

  std::string path_;
  Look now_;
  KeyChange tell_;
  std::unique_ptr<Poller> poller_;
};

}  // namespace llorch::security
