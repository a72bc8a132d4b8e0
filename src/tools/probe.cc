#include "tools/probe.h"

#include "format/json.h"

namespace llorch::tools {
namespace {

constexpr std::size_t kTextMax = 1u << 20;

json::object property(std::string_view type) { return {{"type", type}, {"description", "x"}}; }

json::array declared() {
  json::array tools;
  for (const std::string_view name : probe::kNames) {
    json::object properties;
    for (const std::string_view key : probe::kKeys) properties[key] = property("string");
    tools.push_back(
        {{"type", "function"},
         {"function",
          {{"name", name},
           {"description", "x"},
           {"parameters",
            {{"type", "object"}, {"properties", properties}, {"required", json::array{probe::kKeys[0]}}}}}}});
  }
  return tools;
}

json::object message(std::string_view role, std::string_view content) { return {{"role", role}, {"content", content}}; }

void replace(std::string& text, std::string_view what, char with) {
  std::string out;
  std::size_t at = 0;
  for (std::size_t found; (found = text.find(what, at)) != std::string::npos; at = found + what.size())
    out.append(text, at, found - at), out += with;
  text = out.append(text, at, std::string::npos);
}

}  // namespace

std::string marked(std::string_view text) {
  std::string out(text);
  for (const std::string_view name : probe::kNames) replace(out, name, probe::kNameMark);
  for (const std::string_view id : probe::kIds) replace(out, id, probe::kIdMark);
  return out;
}

json::object Prober::calling(const std::vector<json::object>& calls, std::string_view text) const {
  json::array list;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    std::string id(probe::kIds[i]);
    if (manner.long_ids) id = "call_" + id + "0123456789";
    json::value arguments = calls[i];
    if (manner.arguments_as_text) arguments = boost::json::serialize(calls[i]);
    list.push_back({{"id", id},
                    {"type", "function"},
                    {"function", {{"name", probe::kNames[i]}, {"arguments", std::move(arguments)}}}});
  }
  json::object out{{"role", "assistant"}, {"tool_calls", std::move(list)}};
  if (!text.empty() || manner.content == ToolFormat::Content::kEmpty) out["content"] = text;
  if (text.empty() && manner.content == ToolFormat::Content::kNull) out["content"] = nullptr;
  return out;
}

Result<std::string> Prober::render(const json::array& messages, bool prompt) const {
  const json::array tools = declared();
  json::object variables{{"tools", tools}};
  if (manner.functions)
    variables["functions"] = boost::json::serialize(tools), variables["datetime"] = "1 January 2025";
  LLORCH_TRY(jinja::Value conversation, jinja::read_messages(messages, limit_));
  LLORCH_TRY(const jinja::Text text, template_.render(variables,
                                                      {{"messages", std::move(conversation)},
                                                       {"add_generation_prompt", jinja::Value(prompt)},
                                                       {"bos_token", jinja::Value(options_.bos, true)},
                                                       {"eos_token", jinja::Value(options_.eos, true)}},
                                                      0, limit_));
  if (text.bytes.size() > kTextMax) return fail(ErrorCode::kInvalidRequest, "the template writes too much");
  if (text.bytes.find_first_of("\1\2") != std::string::npos)
    return fail(ErrorCode::kInvalidRequest, "the template writes control characters");
  return text.bytes;
}

Result<std::string> Prober::prompt() const { return render({message("user", probe::kUser)}, true); }

Result<std::string> Prober::answered(std::string_view text) const {
  return render({message("user", probe::kUser), message("assistant", text)}, false);
}

Result<std::string> Prober::called(const std::vector<json::object>& calls, std::string_view text) const {
  return render({message("user", probe::kUser), calling(calls, text)}, false);
}

Result<std::string> Prober::whole_turn() const {
  const json::object call = calling({json::object{{probe::kKeys[0], probe::kValues[0]}}}, {});
  json::object answer = message("tool", probe::kAnswer);
  answer["name"] = probe::kNames[0];
  answer["tool_call_id"] = call.at("tool_calls").at(0).at("id");
  return render({message("user", probe::kUser), call, std::move(answer), message("assistant", probe::kText)}, false);
}

}  // namespace llorch::tools
