#include "tools/conversation.h"

#include <algorithm>
#include <map>

#include "format/json.h"

namespace llorch::tools {
namespace {

using Names = std::map<std::string, std::string, std::less<>>;  // of tools, by the id of the call

/// Nine letters and digits of any id, always the same ones.
std::string short_id(std::string_view id) {
  const bool fits = id.size() == 9 && std::all_of(id.begin(), id.end(), [](char c) {
                      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
                    });
  if (fits) return std::string(id);
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : id) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  std::string out;
  for (int i = 0; i < 9; ++i, hash /= 36) out += "0123456789abcdefghijklmnopqrstuvwxyz"[hash % 36];
  return out;
}

std::string place(std::size_t message, std::size_t call) {
  return fmt::format("messages[{}].tool_calls[{}]", message, call);
}

Status prepare_arguments(const ToolFormat& format, const std::string& where, json::object& function) {
  json::value& arguments = function["arguments"];
  if (arguments.is_null()) arguments = json::object();
  if (arguments.is_string() && !format.arguments_as_text) {
    const std::string_view text = arguments.get_string();
    auto read = text.empty() ? Result<json::value>(json::object()) : json::parse(text, "arguments");
    if (!read || !read->is_object())
      return fail(ErrorCode::kInvalidRequest, "{}.function.arguments: no JSON object", where);
    arguments = *std::move(read);
  } else if (arguments.is_object() && format.arguments_as_text) {
    arguments = boost::json::string(boost::json::serialize(arguments));
  } else if (!arguments.is_string() && !arguments.is_object()) {
    return fail(ErrorCode::kInvalidRequest, "{}.function.arguments: no JSON object", where);
  }
  return {};
}

Status prepare_call(const ToolFormat& format, const std::string& where, json::value& value, Names& names) {
  auto* call = value.if_object();
  auto* function = call && call->contains("function") ? call->at("function").if_object() : nullptr;
  const auto name = function ? json::find_text(*function, "name") : std::nullopt;
  if (!name) return fail(ErrorCode::kInvalidRequest, "{}.function.name: missing", where);
  std::string id = json::find_text(*call, "id").value_or("");
  if (format.short_ids) id = short_id(id);
  names[id] = *name;
  LLORCH_OK(prepare_arguments(format, where, *function));
  if (!call->contains("type")) (*call)["type"] = "function";  // moves what the object holds
  if (format.short_ids || call->contains("id")) (*call)["id"] = id;
  return {};
}

Status prepare_calls(const ToolFormat& format, std::size_t at, json::object& message, Names& names) {
  auto& calls = message.at("tool_calls").as_array();
  if (format.none())
    return fail(ErrorCode::kUnsupportedValue, "messages[{}].tool_calls: the model's chat template shows none ({})", at,
                format.reason);
  if (calls.size() > 1 && !format.parallel)
    return fail(ErrorCode::kUnsupportedValue, "messages[{}].tool_calls: the chat template takes one call only", at);
  for (std::size_t i = 0; i < calls.size(); ++i) LLORCH_OK(prepare_call(format, place(at, i), calls[i], names));
  const auto* content = message.if_contains("content");
  const bool empty = !content || content->is_null() || (content->is_string() && content->get_string().empty()) ||
                     (content->is_array() && content->get_array().empty());
  if (!empty) return {};
  switch (format.content) {
    case ToolFormat::Content::kEmpty: message["content"] = ""; break;
    case ToolFormat::Content::kNull: message["content"] = nullptr; break;
    case ToolFormat::Content::kAbsent: message.erase("content"); break;
  }
  return {};
}

Status prepare_answer(const ToolFormat& format, std::size_t at, json::object& message, const Names& names) {
  if (!format.takes_answers && format.family.empty())
    return fail(ErrorCode::kUnsupportedValue, "messages[{}].role: the chat template takes no answers of tools", at);
  auto id = json::find_text(message, "tool_call_id");
  if (!id) return {};
  if (format.short_ids) message["tool_call_id"] = *id = short_id(*id);
  const auto name = names.find(*id);
  if (name != names.end() && !json::find(message, "name")) message["name"] = name->second;
  return {};
}

}  // namespace

Result<boost::json::array> prepare_history(const ToolFormat& format, const boost::json::array& messages) {
  boost::json::array out = messages;
  Names names;
  for (std::size_t i = 0; i < out.size(); ++i) {
    auto* message = out[i].if_object();
    if (!message) continue;
    const auto* calls = json::find_array(*message, "tool_calls");
    if (calls && calls->empty()) message->erase("tool_calls");
    if (calls && message->contains("tool_calls")) LLORCH_OK(prepare_calls(format, i, *message, names));
    if (json::find_text(*message, "role") == "tool") LLORCH_OK(prepare_answer(format, i, *message, names));
  }
  return out;
}

void add_tool_variables(const ToolFormat& format, const boost::json::array& tools, std::string_view date,
                        boost::json::object& variables) {
  if (!tools.empty()) variables["tools"] = tools;
  if (!format.wants_functions) return;
  if (!variables.contains("functions")) variables["functions"] = boost::json::serialize(tools);
  if (!variables.contains("datetime")) variables["datetime"] = date;
}

}  // namespace llorch::tools
