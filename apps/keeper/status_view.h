// The colony as `llorch status` and `llorch top` show it, from the queen's /v1/status.
#pragma once

#include <boost/json.hpp>
#include <string>

namespace llorch::keeper {

/// Lines for a person: the queen, her hives with their devices and workers, those that are offline, and the queue.
[[nodiscard]] std::string status_text(const boost::json::value& status);

}  // namespace llorch::keeper
