// The colony as `llorch status` and `llorch top` show it, from the queen's /v1/status.
#pragma once

#include <boost/json.hpp>
#include <string>

namespace llorch::keeper {

/// The list that an object has under a name; an empty one where it has none.
[[nodiscard]] const boost::json::array& list(const boost::json::value& v, const char* key);

/// Lines for a person: the queen, her hives with their devices and workers, those that are offline, and the queue.
/// `columns`: that the screen has, where tables leave out what matters least; 0: any number.
[[nodiscard]] std::string status_text(const boost::json::value& status, std::size_t columns);

}  // namespace llorch::keeper
