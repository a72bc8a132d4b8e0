// JSON from files that we do not trust: depth and size are bounded, duplicate keys keep the last value (as in RFC
// 8259's advice to be lenient), numbers stay exact integers where they are. Getters return nullptr or nullopt for what
// is absent or of another type.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/work_limit.h"

namespace llorch::json {

using boost::json::array;
using boost::json::object;
using boost::json::value;

/// Errors: kModelLoadFailed, naming `what`; those of `limit`, where there is one: it is charged in portions of the
/// text.
[[nodiscard]] Result<value> parse(std::string_view text, std::string_view what, WorkLimit* limit = nullptr);
[[nodiscard]] Result<value> parse_file(const std::string& path);

[[nodiscard]] const value* find(const object& o, std::string_view key);  // null counts as absent
[[nodiscard]] const object* find_object(const object& o, std::string_view key);
[[nodiscard]] const array* find_array(const object& o, std::string_view key);
[[nodiscard]] std::optional<std::string> find_text(const object& o, std::string_view key);
[[nodiscard]] std::optional<double> find_number(const object& o, std::string_view key);
[[nodiscard]] std::optional<std::uint64_t> find_unsigned(const object& o, std::string_view key);
[[nodiscard]] std::optional<bool> find_bool(const object& o, std::string_view key);
[[nodiscard]] std::optional<std::uint64_t> as_unsigned(const value& v);
[[nodiscard]] std::optional<double> as_number(const value& v);

}  // namespace llorch::json
