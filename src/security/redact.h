// Secrets and figures out of text that others will read (O-04, J-04). Linear in the length of the text, which is never
// cut. Threads: any.
#pragma once

#include <boost/json/fwd.hpp>
#include <string>
#include <string_view>

namespace llorch::security {

/// Bearer tokens, key=value secrets, keys of our own making, JWTs, PEM keys and URL passwords become [REDACTED]. Of a
/// JSON text only what no escape hides is found: redact values, then serialise.
[[nodiscard]] std::string redact(std::string_view text);
/// All strings in a value; those under a name such as "token" or "password" whatever they hold.
void redact_values(boost::json::value& value);
/// Amounts of memory become "...": what a key without admin scope may read.
[[nodiscard]] std::string without_figures(std::string_view text);

}  // namespace llorch::security
