// Prompt caches are never shared between keys: every request that goes to a worker carries a salt of its principal.
//
// A worker sees the queen's token on every request, so that its own salt does not tell clients apart. What a client
// asks for itself (cache_salt, prompt_cache_key) goes into the same hash: it parts caches further and never joins them.
// Threads: any.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace llorch::queen {

struct BadField {
  Error error;
  std::string_view field;
};

/// Replaces both fields of a request by one cache_salt. The error: a field that is no string of at most 256 bytes.
[[nodiscard]] std::optional<BadField> salt_cache(boost::json::object& body, std::string_view principal);

}  // namespace llorch::queen
