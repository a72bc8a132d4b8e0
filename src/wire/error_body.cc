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

namespace {

std::string_view type_in_messages(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503:
    case 529: return "overloaded_error";
    default: return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

}  // namespace

boost::json::object shaped_error(std::string_view path, boost::json::object body) {
  if (path.starts_with("/api/")) return {{"error", body.at("error").as_object().at("message")}};
  const std::string_view rest = path.substr(path.starts_with("/v1/") ? 3 : 0);
  if (rest != "/messages" && !rest.starts_with("/messages/")) return body;
  auto& e = body.at("error").as_object();
  int status = 400;
  for (const ErrorKind& k : kErrorKinds)
    if (k.name == std::string_view(e.at("code").as_string())) status = k.http_status;
  e["type"] = type_in_messages(status);
  return {{"type", "error"}, {"error", e}, {"request_id", e.at("correlation_id")}};
}

boost::json::object error_event_of(std::string_view operation, const Error& error, std::uint64_t number) {
  const ErrorKind& k = kind(error.code);
  if (operation.starts_with("api/")) return {{"error", error.message}};
  if (operation == "messages")
    return {{"type", "error"},
            {"error", {{"type", type_in_messages(k.http_status)}, {"message", error.message}, {"code", k.name}}}};
  if (operation == "responses")
    return {{"type", "error"},
            {"code", k.name},
            {"message", error.message},
            {"param", nullptr},
            {"sequence_number", number}};
  return {{"error", {{"code", k.name}, {"message", error.message}, {"type", k.type}}}};
}

}  // namespace llorch::wire
