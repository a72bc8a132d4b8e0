#include "wire/fields.h"

#include <cmath>

#include "format/json.h"
#include "format/json_keys.h"

namespace llorch::wire {

Result<boost::json::object> parse_body(std::string_view text, WorkLimit* limit) {
  auto value = json::parse(text, "the body", limit);
  if (!value && value.error().code != ErrorCode::kModelLoadFailed) return std::unexpected(std::move(value).error());
  if (!value) return fail(ErrorCode::kInvalidRequest, "{}", value.error().message);
  if (!value->is_object()) return fail(ErrorCode::kInvalidRequest, "the body must be one JSON object");
  LLORCH_TRY(const auto doubled, json::doubled_key(text, limit));
  if (doubled) return fail(ErrorCode::kInvalidRequest, "the body has a key twice in one object");
  return std::move(value->get_object());
}

const boost::json::value* Fields::take(std::string_view name) {
  taken_.emplace(name);
  const auto* v = object_.if_contains({name.data(), name.size()});
  return v && !v->is_null() ? v : nullptr;
}

std::optional<double> Fields::number(std::string_view name, double low, double high, std::string_view constraint) {
  const auto* v = take(name);
  if (!v) return std::nullopt;
  const auto d = json::as_number(*v);
  if (d && std::isfinite(*d) && *d >= low && *d <= high) return d;
  violation(name, std::string(constraint), fmt::format("{} must be a number in {}", name, constraint));
  return std::nullopt;
}

std::optional<std::int64_t> Fields::integer(std::string_view name, std::int64_t low, std::int64_t high) {
  const auto* v = take(name);
  if (!v) return std::nullopt;
  if (v->is_int64() && v->get_int64() >= low && v->get_int64() <= high) return v->get_int64();
  violation(name, fmt::format("range({}..={})", low, high),
            fmt::format("{} must be an integer from {} to {}", name, low, high));
  return std::nullopt;
}

std::optional<std::uint64_t> Fields::unsigned_integer(std::string_view name) {
  const auto* v = take(name);
  if (!v) return std::nullopt;
  if (v->is_uint64()) return v->get_uint64();
  if (v->is_int64() && v->get_int64() >= 0) return static_cast<std::uint64_t>(v->get_int64());
  violation(name, "unsigned 64-bit", fmt::format("{} must be an unsigned 64-bit integer", name));
  return std::nullopt;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const auto* v = take(name);
  if (!v) return std::nullopt;
  if (v->is_bool()) return v->get_bool();
  violation(name, "bool", fmt::format("{} must be true or false", name));
  return std::nullopt;
}

std::optional<std::string> Fields::text(std::string_view name, std::size_t bytes_max) {
  const auto* v = take(name);
  if (!v) return std::nullopt;
  if (v->is_string() && v->get_string().size() <= bytes_max) return std::string(v->get_string());
  violation(name, fmt::format("max_length({})", bytes_max),
            fmt::format("{} must be a string of at most {} bytes", name, bytes_max));
  return std::nullopt;
}

std::vector<std::string> Fields::texts(std::string_view name, std::size_t count_max, std::size_t bytes_max) {
  const auto* v = take(name);
  std::vector<std::string> out;
  if (!v) return out;
  const auto add = [&](const boost::json::value& item) {
    if (!item.is_string()) return violation(name, "string", fmt::format("{} must hold strings", name));
    if (item.get_string().empty())
      return violation(name, "non_empty", fmt::format("{} must not hold an empty string", name));
    if (item.get_string().size() > bytes_max)
      return violation(name, fmt::format("max_length({})", bytes_max),
                       fmt::format("each string of {} has at most {} bytes", name, bytes_max));
    out.emplace_back(item.get_string());
  };
  if (v->is_string()) {
    add(*v);
  } else if (v->is_array()) {
    if (v->get_array().size() > count_max)
      violation(name, fmt::format("max_count({})", count_max),
                fmt::format("{} has at most {} entries", name, count_max));
    else
      for (const auto& item : v->get_array()) add(item);
  } else {
    violation(name, "string or array", fmt::format("{} must be a string or an array of strings", name));
  }
  return out;
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> names;
  for (const auto& [key, value] : object_)
    if (!taken_.contains(std::string_view(key.data(), key.size()))) names.emplace_back(key);
  return names;
}

Error violation_error(const std::vector<Violation>& violations) {
  return {violations.front().code, violations.front().message};
}

boost::json::object violation_details(const std::vector<Violation>& violations) {
  boost::json::array list;
  for (const Violation& v : violations)
    list.push_back({{"field", v.field}, {"constraint", v.constraint}, {"message", v.message}});
  return {{"errors", std::move(list)}};
}

}  // namespace llorch::wire
