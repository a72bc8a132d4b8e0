// By which hosts a queen that serves TLS to others is called: what Host headers may say, and what her certificate
// names.
#pragma once

#include <string>
#include <vector>

#include "service/front.h"

namespace llorch::queen {

/// Of `hosts`, those that a certificate can name: addresses and DNS names, without ports and underscores. Names within
/// the colony are given by its authority, not by flags.
[[nodiscard]] std::vector<std::string> certified_hosts(std::vector<std::string> hosts);
/// What Host headers may say besides loopback and the address that was reached: --allow-host, and with TLS all that her
/// certificate names. Names are written as headers have them: "[::1]".
[[nodiscard]] std::vector<std::string> admitted_hosts(const service::FrontOptions& options);

}  // namespace llorch::queen
