#include "wire/tool_use.h"

#include <algorithm>

#include "format/json.h"

namespace llorch::wire {
namespace {

void refuse_choice(Fields& f) {
  f.violation("tool_choice", "none, auto, required, or a declared function",
              "tool_choice must be none, auto, required, or name a declared function", ErrorCode::kUnsupportedValue);
}

void refuse_call_of_nothing(Fields& f) {
  if (f.violations().empty())  // else the tools themselves may be what is wrong
    f.violation("tool_choice", "with tools only", "tool_choice asks for a call, and the request has no tools",
                ErrorCode::kUnsupportedValue);
}

/// The name in {"type": "function", "function": {"name"}}, or in {"type": "function", "name"}.
std::optional<std::string> named_function(const boost::json::value& v) {
  const auto* o = v.if_object();
  if (!o || json::find_text(*o, "type") != "function") return std::nullopt;
  const auto* inner = json::find_object(*o, "function");
  const auto name = json::find_text(inner ? *inner : *o, "name");
  return name ? std::optional<std::string>(*name) : std::nullopt;
}

/// Leaves only the tools of these names; false: one is not declared.
bool keep_only(const std::vector<std::string>& names, ToolUse& use) {
  const auto known = [&](const std::string& name) { return tools::find_tool(use.tools, name) != nullptr; };
  if (names.empty() || !std::ranges::all_of(names, known)) return false;
  std::erase_if(use.tools, [&](const auto& tool) { return std::ranges::find(names, tool.name) == names.end(); });
  return true;
}

void read_choice(Fields& f, const boost::json::value& v, ToolUse& use) {
  using enum ToolUse::Choice;
  const auto by_name = [](std::string_view text) -> std::optional<ToolUse::Choice> {
    if (text == "none") return kNone;
    if (text == "auto") return kAuto;
    return text == "required" || text == "any" ? std::optional(kRequired) : std::nullopt;
  };
  if (v.is_string()) {
    const auto choice = by_name(v.get_string());
    if (!choice) return refuse_choice(f);
    if (*choice == kRequired && use.tools.empty()) return refuse_call_of_nothing(f);
    use.choice = *choice;
    return;
  }
  std::vector<std::string> names;
  if (use.tools.empty() && named_function(v)) return refuse_call_of_nothing(f);
  if (const auto name = named_function(v)) {
    names.push_back(*name);
    use.choice = kRequired;
  } else {
    const auto* o = v.if_object();
    if (!o || json::find_text(*o, "type") != "allowed_tools") return refuse_choice(f);
    const auto* inner = json::find_object(*o, "allowed_tools");
    const auto* list = json::find_array(inner ? *inner : *o, "tools");
    const auto choice = by_name(json::find_text(inner ? *inner : *o, "mode").value_or("auto"));
    if (!list || !choice) return refuse_choice(f);
    for (const auto& tool : *list) names.push_back(named_function(tool).value_or(""));
    use.choice = *choice;
  }
  if (!keep_only(names, use)) refuse_choice(f);
}

/// What clients may leave out, and templates rely on.
void fill_in(boost::json::object& function) {
  if (!json::find(function, "description")) function["description"] = "";
  if (!json::find(function, "parameters"))
    function["parameters"] = {{"type", "object"}, {"properties", boost::json::object()}};
}

}  // namespace

ToolUse read_tool_use(Fields& f) {
  ToolUse use;
  if (const auto* v = f.take("tools")) {
    if (!v->is_array()) {
      f.violation("tools", "array", "tools must be an array");
    } else if (auto read = tools::read_tools(v->get_array()); !read) {
      f.violation("tools", "functions with names and schemas", read.error().message, read.error().code);
    } else {
      use.declared = v->get_array(), use.tools = *std::move(read);
      for (auto& tool : use.declared)
        if (auto* function = tool.get_object().if_contains("function"); function && function->is_object()) {
          use.strict |= json::find_bool(function->get_object(), "strict").value_or(false);
          fill_in(function->get_object());
        }
    }
  }
  const auto* choice = f.take("tool_choice");
  if (choice) read_choice(f, *choice, use);
  // Who names a function wants one call of it.
  use.parallel = f.boolean("parallel_tool_calls").value_or(!choice || !named_function(*choice));
  return use;
}

}  // namespace llorch::wire
