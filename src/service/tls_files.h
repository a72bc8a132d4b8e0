// What a daemon shows over TLS and whom it believes: read from files, and read again when they change.
//
// A certificate for people is two files of theirs (--tls-cert, --tls-key). A colony's is a folder of ours: root.pem
// and own.pem (the daemon's key, its certificate, then those that lead to the root: one file, so that no two belong
// apart). Files that cannot be used any more are told to `on_problem`, and what was read before stays. Threads: the
// event loop's; load() blocks and is for the start. Errors: kInvalidRequest naming flag or file.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "net/event_loop.h"
#include "net/tls.h"
#include "security/authority.h"
#include "service/background.h"

namespace llorch::service {

struct TlsPaths {
  std::string people_certificate, people_key;  // empty: none
  std::string colony;                          // the folder; empty or without own.pem: none
  /// Callers by a name of the colony must show a certificate: for daemons that only daemons call so.
  bool callers_must_show = false;
  /// What servers of the colony must pass besides; any thread.
  std::function<Status(const security::CertificateFacts&)> check;
};

/// For TlsClient: by a colony's name, only the daemon that has it is believed, and only if it passes `check`.
[[nodiscard]] std::function<bool(const std::string&, const std::string&)> accept_daemons(
    std::function<Status(const security::CertificateFacts&)> check = {});

class TlsFiles {
 public:
  /// What has been read; null where there is nothing of the kind.
  struct Loaded {
    std::shared_ptr<net::TlsServer> server;
    std::shared_ptr<const net::TlsClient> client;
    std::string root;  // PEM
    std::optional<security::CertificateFacts> own;
  };
  TlsFiles(net::EventLoop& loop, TlsPaths paths) : loop_(loop), paths_(std::move(paths)) {}

  [[nodiscard]] Status load();
  [[nodiscard]] const Loaded& now() const { return now_; }
  /// Looks at the files every `period`; `changed` is called when something else was read.
  void watch(std::chrono::milliseconds period, std::function<void()> changed,
             std::function<void(const Error&)> on_problem);
  /// Looks now: the files were just written. Without watch() nothing happens.
  void look_now();

  /// Writes a colony's folder. Blocks.
  [[nodiscard]] static Status store(const std::string& folder, const security::DaemonIdentity& identity,
                                    const std::string& root);
  /// The last certificate of a chain: the root, as our authority sends it.
  [[nodiscard]] static std::string root_of(const std::string& chain);

 private:
  struct Read;
  [[nodiscard]] static Result<Read> read(const TlsPaths& paths);
  void look();
  bool looking_ = false;

  net::EventLoop& loop_;
  TlsPaths paths_;
  Loaded now_;
  std::string state_;  // identities of the files that were read
  std::chrono::milliseconds period_{};
  std::function<void()> changed_;
  std::function<void(const Error&)> on_problem_;
  net::EventLoop::Timer timer_;
  std::unique_ptr<Background> background_;  // last: its work uses what is above
};

}  // namespace llorch::service
