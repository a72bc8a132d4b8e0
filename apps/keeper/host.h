// A machine of the colony as the keeper reaches it: this one, or another over OpenSSH (K-01, S-13).
//
// Everything that is run there is a fixed template; what a person gives is checked first and can hold no character that
// a shell knows. Secrets go through stdin. Blocking; errors: kInvalidRequest, kIo with what failed.
#pragma once

#include <string>

#include "base/result.h"
#include "service/timeout.h"

namespace llorch::keeper {

/// How a hive is started there.
struct HiveStart {
  std::string hive_id, queen_url, listen = "0.0.0.0";
  int port = 8600, worker_port = 8601, heartbeat_interval_s = 30;
  bool local_mode = false, insecure_http = false;
  std::string queen_ca;  // a file there that has the colony's root; empty: it comes with the join token
};

class Host {
 public:
  /// `address`: "[user@]host", or empty for this machine. Errors: kInvalidRequest for anything that is no host name.
  [[nodiscard]] static Result<Host> make(const std::string& address, int ssh_port);
  [[nodiscard]] bool local() const { return address_.empty(); }
  /// What its hive is called unless told otherwise.
  [[nodiscard]] std::string default_hive_id() const;

  /// Copies a program of this machine into ~/.local/bin there, unless the same one is there. True: it was copied.
  [[nodiscard]] Result<bool> put_program(const std::string& name) const;
  /// The version that the installed hive gives. Errors: kIo when it does not run there.
  [[nodiscard]] Result<std::string> version() const;
  /// Starts the hive in a session of its own. `token`: what it shows the queen: in local mode her key for hives, else
  /// a one-time join token. What it was started with before stays until keep_start().
  [[nodiscard]] Status start_hive(const HiveStart& how, const std::string& token) const;
  /// True: it ran, and is gone. False: it did not run.
  [[nodiscard]] Result<bool> stop_hive() const;
  [[nodiscard]] Result<bool> hive_running() const;
  /// From now on start_again() does what start_hive() did.
  [[nodiscard]] Status keep_start() const;
  /// start_hive() has failed: ends the hive, and what was there before is as it was.
  [[nodiscard]] Status withdraw_start() const;
  /// Starts a hive that has joined with the flags of then. Errors: kNotFound when its program is gone.
  [[nodiscard]] Status start_again() const;
  /// Whether the join token was used, and a key came for it.
  [[nodiscard]] bool joined() const;
  /// How the hive stands with its queen, as JSON (hive/standing.h); empty: it has not heard of her since its start.
  [[nodiscard]] std::string standing() const;
  /// Why the hive there has ended: what it logged last, as an error.
  [[nodiscard]] Error last_error() const;
  /// Takes programs, catalogs and keys away; models that were fetched stay.
  [[nodiscard]] Status uninstall() const;
  /// Of the hive, below ~/.local/share/llorch there. On this machine "hive" belongs to the hive that a queen starts.
  [[nodiscard]] std::string data_folder() const;

 private:
  Host(std::string address, int ssh_port) : address_(std::move(address)), ssh_port_(ssh_port) {}
  struct Said {
    int exit_code = 0;
    std::string output;
  };
  [[nodiscard]] std::string places() const;  // sets $bin and $data
  /// Makes a hive of the script `file`. Errors: kResourceInUse, kNotFound, kIo.
  [[nodiscard]] Status launch(std::string_view prepared, std::string_view file, int input) const;
  [[nodiscard]] Result<Said> shell(const std::string& script, const service::Timeout& timeout, int input = -1) const;
  std::string address_;
  int ssh_port_;
};

}  // namespace llorch::keeper
