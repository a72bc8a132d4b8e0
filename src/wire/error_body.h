// The one error object, native and OpenAI's at once (J-02).
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace llorch::wire {

/// {"error":{code, message, type, param?, details?, correlation_id}}
[[nodiscard]] boost::json::object error_body(const Error& error, std::string_view correlation_id,
                                             const boost::json::object& details = {}, std::string_view param = {});

/// The same in the shape of the API that has the path: Messages (Anthropic's) have one of their own,
/// {"type": "error", "error": {type, message, ...}}.
[[nodiscard]] boost::json::object shaped_error(std::string_view path, boost::json::object body);
/// The event that ends a stream of that operation ("messages", "responses", or one of OpenAI's older two) with an
/// error.
[[nodiscard]] boost::json::object error_event_of(std::string_view operation, const Error& error, std::uint64_t number);

}  // namespace llorch::wire
