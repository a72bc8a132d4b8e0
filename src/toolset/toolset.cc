#include "toolset/toolset.h"

#include <algorithm>

#include "format/json.h"

namespace llorch::tools {
namespace {

constexpr int kReferencesMax = 16;

std::uint8_t type_named(std::string_view name) {
  if (name == "null") return kNullValue;
  if (name == "boolean") return kBooleanValue;
  if (name == "number" || name == "integer") return kNumberValue;
  if (name == "string") return kStringValue;
  if (name == "array") return kArrayValue;
  if (name == "object") return kObjectValue;
  return kAnyValue;
}

/// `left`: schemas that may still be looked at, so that none is followed without end.
std::uint8_t types(const boost::json::object& root, const boost::json::value& schema, int depth, int& left) {
  const auto* o = schema.if_object();
  if (!o || depth > kReferencesMax || --left < 0) return kAnyValue;
  std::uint8_t out = kAnyValue;
  if (const auto* type = json::find(*o, "type")) {
    std::uint8_t named = 0;
    if (type->is_string()) named = type_named(type->get_string());
    if (const auto* list = type->if_array())
      for (const auto& t : *list) named |= t.is_string() ? type_named(t.get_string()) : std::uint8_t{kAnyValue};
    out &= named;
    const auto nullable = json::find_bool(*o, "nullable");
    if (nullable && *nullable) out |= kNullValue;
  }
  if (const auto* list = json::find_array(*o, "enum")) {
    std::uint8_t held = 0;
    for (const auto& v : *list) held |= type_of(v);
    out &= held;
  }
  if (const auto* value = o->if_contains("const")) out &= type_of(*value);
  if (const auto reference = json::find_text(*o, "$ref"); reference && reference->starts_with("#")) {
    boost::system::error_code bad;
    const boost::json::value whole(root);
    if (const auto* target = whole.find_pointer(std::string_view(*reference).substr(1), bad))
      out &= types(root, *target, depth + 1, left);
  }
  for (const std::string_view key : {"anyOf", "oneOf", "allOf"}) {
    const auto* list = json::find_array(*o, key);
    if (!list) continue;
    std::uint8_t joined = key == "allOf" ? kAnyValue : 0;
    for (const auto& part : *list) {
      const std::uint8_t one = types(root, part, depth + 1, left);
      joined = key == "allOf" ? joined & one : joined | one;
    }
    out &= joined;
  }
  return out;
}

}  // namespace

std::uint8_t type_of(const boost::json::value& v) {
  switch (v.kind()) {
    case boost::json::kind::null: return kNullValue;
    case boost::json::kind::bool_: return kBooleanValue;
    case boost::json::kind::string: return kStringValue;
    case boost::json::kind::array: return kArrayValue;
    case boost::json::kind::object: return kObjectValue;
    default: return kNumberValue;
  }
}

std::uint8_t types_of(const DeclaredTool& tool, std::string_view argument) {
  const auto* properties = json::find_object(tool.parameters, "properties");
  const auto* schema = properties ? properties->if_contains(argument) : nullptr;
  if (!schema) return kAnyValue;
  int left = 64;
  const std::uint8_t out = types(tool.parameters, *schema, 0, left);
  return out ? out : std::uint8_t{kAnyValue};
}

const DeclaredTool* find_tool(std::span<const DeclaredTool> tools, std::string_view name) {
  const auto found = std::find_if(tools.begin(), tools.end(), [&](const DeclaredTool& t) { return t.name == name; });
  return found == tools.end() ? nullptr : &*found;
}

/// As far as its own `type` says.
static bool allows_objects(const boost::json::object& schema) {
  const auto* type = json::find(schema, "type");
  if (!type) return true;
  const auto* several = type->if_array();
  return *type == "object" || (several && std::ranges::find(*several, boost::json::value("object")) != several->end());
}

std::string wrong_type(std::string_view type, std::string_view supported) {
  constexpr std::size_t kShownMax = 64;
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  const bool plain = !type.empty() && type.size() <= kShownMax && type.find_first_not_of(kPlain) == type.npos;
  return fmt::format("tools of {} are not supported, only of type {}",
                     plain ? fmt::format("type {}", type) : "this type", supported);
}

Result<std::vector<DeclaredTool>> read_tools(const boost::json::array& tools) {
  if (tools.size() > kToolsMax) return fail(ErrorCode::kInvalidRequest, "tools: at most {}", kToolsMax);
  std::vector<DeclaredTool> out;
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const auto* tool = tools[i].if_object();
    if (const auto type = tool ? json::find_text(*tool, "type") : std::nullopt; type && *type != "function")
      return fail(ErrorCode::kUnsupportedValue, "tools[{}]: {}", i, wrong_type(*type, "function"));
    const auto* inner = tool ? json::find_object(*tool, "function") : nullptr;
    const auto* function = inner ? inner : tool;
    const auto name = function ? json::find_text(*function, "name") : std::nullopt;
    if (!name || name->empty() || name->size() > kNameMax)
      return fail(ErrorCode::kInvalidRequest, "tools[{}]: a name of 1 to {} bytes is missing", i, kNameMax);
    if (find_tool(out, *name)) return fail(ErrorCode::kInvalidRequest, "tools[{}]: a name stands twice", i);
    DeclaredTool& added = out.emplace_back(DeclaredTool{*name, {}});
    const auto* parameters = json::find(*function, "parameters");
    if (!parameters) parameters = json::find(*function, "input_schema");
    if (!parameters) continue;
    if (!parameters->is_object())
      return fail(ErrorCode::kInvalidRequest, "tools[{}]: parameters are no JSON schema", i);
    if (!allows_objects(parameters->get_object()))
      return fail(ErrorCode::kInvalidRequest, "tools[{}]: parameters must be a schema of objects", i);
    added.parameters = parameters->get_object();
  }
  return out;
}

}  // namespace llorch::tools
