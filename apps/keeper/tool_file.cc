#include "keeper/tool_file.h"

#include <fmt/format.h>

#include <algorithm>

#include "format/json.h"
#include "format/json_keys.h"
#include "keeper/given_file.h"

namespace llorch::keeper {
namespace {

constexpr std::size_t kFileBytesMax = 4u << 20;

/// Of text that is no JSON: where that shows.
std::size_t line_of_flaw(std::string_view text) {
  boost::json::stream_parser parser;
  boost::system::error_code problem;
  const std::size_t read = parser.write_some(text.data(), text.size(), problem);
  const std::size_t end = std::min(read, text.size());
  return 1 + static_cast<std::size_t>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
}

/// What is wrong with a function; empty: nothing.
std::string flaw_of(const boost::json::object& function) {
  const auto name = json::find_text(function, "name");
  if (!name || name->empty()) return "name: the function's name is missing";
  const auto* parameters = json::find(function, "parameters");
  if (parameters && !parameters->is_object()) return "parameters: must be a JSON schema, which is an object";
  const auto* description = json::find(function, "description");
  if (description && !description->is_string()) return "description: must be a text";
  return "";
}

Result<boost::json::object> tool_of(const boost::json::value& v, const std::string& place) {
  const auto bad = [&](const std::string& what) { return fail(ErrorCode::kInvalidRequest, "{}{}", place, what); };
  const auto* o = v.if_object();
  if (!o) return bad(": must be an object");
  const auto* function = o->if_contains("function");
  if (!function) {
    if (const auto type = json::find_text(*o, "type"); type && *type != "function")
      return bad(fmt::format(".type: '{}' is no type of tool, only function is", *type));
    if (const std::string flaw = flaw_of(*o); !flaw.empty()) return bad("." + flaw);
    boost::json::object bare = *o;
    bare.erase("type");
    return boost::json::object{{"type", "function"}, {"function", std::move(bare)}};
  }
  if (!function->is_object()) return bad(".function: must be an object");
  if (const std::string flaw = flaw_of(function->get_object()); !flaw.empty()) return bad(".function." + flaw);
  boost::json::object tool = *o;
  if (!tool.contains("type")) tool["type"] = "function";
  return tool;
}

}  // namespace

Result<boost::json::array> parse_tools(std::string_view text, const std::string& file) {
  auto parsed = json::parse(text, file);
  if (!parsed) return fail(ErrorCode::kInvalidRequest, "{} (line {})", parsed.error().message, line_of_flaw(text));
  LLORCH_TRY(const auto doubled, json::doubled_key(text));
  if (doubled) return fail(ErrorCode::kInvalidRequest, "{}: {}: the key stands twice in one object", file, *doubled);
  boost::json::array tools;
  if (const auto* list = parsed->if_array()) {
    if (list->empty()) return fail(ErrorCode::kInvalidRequest, "{}: there is no tool in it", file);
    for (std::size_t i = 0; i < list->size(); ++i) {
      LLORCH_TRY(auto tool, tool_of((*list)[i], fmt::format("{}: [{}]", file, i)));
      tools.push_back(std::move(tool));
    }
    return tools;
  }
  if (!parsed->is_object()) return fail(ErrorCode::kInvalidRequest, "{}: must be a list of tools, or one tool", file);
  LLORCH_TRY(auto tool, tool_of(*parsed, file + ": "));
  tools.push_back(std::move(tool));
  return tools;
}

Result<boost::json::array> read_tools(const std::string& file) {
  const auto text = read_given_file(file, kFileBytesMax);
  if (!text) return fail(ErrorCode::kInvalidRequest, "the tools cannot be read: {}", text.error().message);
  return parse_tools(*text, file == kStdin ? "stdin" : file);
}

Result<boost::json::value> tool_choice(const std::string& choice, const boost::json::array& tools) {
  if (choice == "auto" || choice == "required" || choice == "none") return boost::json::value(choice);
  std::string names;
  for (const auto& tool : tools) {
    const std::string name = json::find_text(tool.at("function").as_object(), "name").value_or("");
    if (name == choice) return boost::json::value{{"type", "function"}, {"function", {{"name", name}}}};
    names += (names.empty() ? "" : ", ") + name;
  }
  return fail(ErrorCode::kInvalidRequest, "--tool-choice {}: must be auto, required, none or the name of a tool: {}",
              choice, names);
}

}  // namespace llorch::keeper
