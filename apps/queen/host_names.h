// By which hosts a queen that serves others is called: what Host headers may say, and what her certificate
// names.
#pragma once

#include <string>
#include <vector>

#include "service/front.h"

namespace llorch::queen {

/// Of `hosts`, those that a certificate can name: addresses and DNS names, without ports and underscores. Names within
/// the colony are given by its authority, not by flags.
[[nodiscard]] std::vector<std::string> certified_hosts(std::vector<std::string> hosts);
/// What Host headers may say besides loopback and the address that was reached: --allow-host; beyond loopback her own
/// names and addresses; and with TLS her name in the colony. Names are written as headers have them: "[::1]".
[[nodiscard]] std::vector<std::string> admitted_hosts(const service::FrontOptions& options);
/// By which other machines reach her, the best first: --allow-host, then the address that she listens on, or the
/// machine's name and addresses. Empty: she listens for her own machine. `options`: as they were given.
[[nodiscard]] std::vector<std::string> meeting_hosts(const service::FrontOptions& options);

}  // namespace llorch::queen
