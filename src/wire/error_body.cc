#include "wire/error_body.h"

namespace llorch::wire {

boost::json::object error_body(const Error& error, std::string_view correlation_id, const boost::json::object& details,
                               std::string_view param) {
  const ErrorKind& k = kind(error.code);
  boost::json::object e{{"code", k.name}, {"message", error.message}, {"type", k.type}};
  if (!param.empty()) e["param"] = param;
  if (!details.empty()) e["details"] = details;
  e["correlation_id"] = correlation_id;
  return {{"error", std::move(e)}};
}

}  // namespace llorch::wire
