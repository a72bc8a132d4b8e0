// What a machine knows of the colony that it has joined: `llorch hive join` leaves it in ~/.local/share/llorch.
//
// Read from the command that starts its hive (host.h) and from what the hive keeps beside it. Blocks; no errors: what
// cannot be read is a machine that has joined no colony.
#pragma once

#include <optional>
#include <string>

#include "net/tls.h"

namespace llorch::keeper {

struct Membership {
  std::string queen_url, hive_id, folder;
  int port = 8600;        // of its hive
  bool has_key = true;    // false: the hive's own key (node-token) is gone, and it must join again
  std::string root_file;  // the colony's root certificate; empty where the colony speaks http://
  std::string tls_name;   // the hive's own inside the colony, which its certificate has; empty: none
  net::TlsPair own;       // that certificate
  /// What opens the hive's API on this machine.
  [[nodiscard]] std::string token_file() const { return folder + "/token"; }
};

/// Below ~/.local/share/llorch: the hive that a person has started here.
[[nodiscard]] std::string hive_by_hand_folder();
/// The colony that this machine's hive has joined, with its queen on this machine or another.
[[nodiscard]] std::optional<Membership> own_membership();
/// The same, unless the queen is this machine's own, or this machine has one that serves others: her commands are for
/// her. `data_dir`: of that queen.
[[nodiscard]] std::optional<Membership> membership_elsewhere(const std::string& data_dir);

}  // namespace llorch::keeper
