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

}  // namespace llorch::wire
