// The tools that a request declares, and what types their schemas allow.
//
// Ownership: values. Threads: const, safe from any. Errors: kInvalidRequest, naming the tool by its place;
// kUnsupportedValue for one of another type than function.
#pragma once

#include <boost/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace llorch::tools {

inline constexpr std::size_t kToolsMax = 1024;
inline constexpr std::size_t kNameMax = 256;  // bytes of a tool's name, or of an argument's

struct DeclaredTool {
  std::string name;
  boost::json::object parameters;  // a JSON schema; empty: any object
};

/// Of [{"type": "function", "function": {"name", "parameters"}}], or of the functions themselves.
[[nodiscard]] Result<std::vector<DeclaredTool>> read_tools(const boost::json::array& tools);
/// Why a tool of this type is refused. It is named where it is a plain word.
[[nodiscard]] std::string wrong_type(std::string_view type, std::string_view supported);
[[nodiscard]] const DeclaredTool* find_tool(std::span<const DeclaredTool> tools, std::string_view name);

/// Types of JSON values, as bits.
enum : std::uint8_t {
  kNullValue = 1,
  kBooleanValue = 2,
  kNumberValue = 4,
  kStringValue = 8,
  kArrayValue = 16,
  kObjectValue = 32,
  kAnyValue = 63
};
/// What the schema of an argument allows, as far as types, values, references and combinations tell.
[[nodiscard]] std::uint8_t types_of(const DeclaredTool& tool, std::string_view argument);
[[nodiscard]] std::uint8_t type_of(const boost::json::value& value);

}  // namespace llorch::tools
