// Whether an address is one of the public internet: what a redirect of a stranger may lead to. Loopback, private and
// link-local addresses, and all that the registries of special purposes name (RFC 6890), are not; nor is an IPv6
// address that leads to such an IPv4 address. Threads: any.
#pragma once

#include <sys/socket.h>

namespace llorch::hive {

[[nodiscard]] bool is_public_address(const sockaddr* address);

}  // namespace llorch::hive
