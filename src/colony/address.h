// Where a daemon that reports to us may say that it answers.
//
// A report names addresses, and what opens a daemon is sent to them. So an address must be the one that the report came
// from, or one that was given when the daemon joined the colony; daemons on our own machine may name any address of it.
// Threads: any.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "colony/facts.h"

namespace llorch::colony {

/// Where a report came from.
struct Origin {
  std::string peer;    // address of the connection's other end
  std::string local;   // and of our end
  std::string joined;  // host that was given at joining; empty: none
};

/// One spelling of each address: no brackets, IPv4 out of IPv6, lower case; "localhost" is 127.0.0.1.
[[nodiscard]] std::string normal_host(std::string_view host);
/// 0.0.0.0 or ::, which a daemon names that listens on every address.
[[nodiscard]] bool is_any_address(std::string_view host);
/// Loopback, or an address of one of this machine's interfaces.
[[nodiscard]] bool is_own_address(std::string_view host);

/// Loopback, link-local (169.254.169.254 tells a cloud's secrets), multicast.
[[nodiscard]] bool is_local_scope(std::string_view host);
/// Whether the report's peer is this machine.
[[nodiscard]] bool is_from_here(const Origin& from);
/// The host that a daemon gives when it joins, and may name in reports from then on though it calls from another one;
/// empty: none is needed. Never one that leads elsewhere from here than from there: loopback, link-local, this
/// machine's own. `proves_itself`: it is called by its certificate's name, so that a host name, which leads wherever
/// its owner says, can do no harm. Errors: kForbidden.
[[nodiscard]] Result<std::string> host_of_joining(std::string_view host, const Origin& from, bool proves_itself);

/// The host to call for one that a report names: itself, or for 0.0.0.0 and :: the report's peer. Errors: kForbidden.
[[nodiscard]] Result<std::string> settle_host(std::string_view host, const Origin& from);
/// The same for a whole address. Errors: kInvalidRequest for one that is no http[s]://host[:port][/path].
[[nodiscard]] Result<std::string> settle_url(std::string_view url, const Origin& from);
/// Settles all addresses of a heartbeat, or refuses it.
[[nodiscard]] Status settle_addresses(HiveBeat& beat, const Origin& from);

}  // namespace llorch::colony
