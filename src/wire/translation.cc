#include "wire/translation.h"

#include "base/integer.h"
#include "format/json.h"
#include "toolset/toolset.h"

namespace llorch::wire {

void Translation::pass(std::string_view name, std::string_view as) {
  if (const auto* v = fields.take(name)) chat[as] = *v;
}

const boost::json::object* Translation::object(std::string_view name) {
  const auto* v = fields.take(name);
  if (v && !v->is_object()) refuse(name, "an object is required", ErrorCode::kInvalidRequest);
  return v ? v->if_object() : nullptr;
}

std::optional<std::string> Translation::text(const boost::json::object& o, std::string_view key,
                                             std::string_view where) {
  auto found = json::find_text(o, key);
  if (!found) refuse(fmt::format("{}.{}", where, key), "a text is required", ErrorCode::kInvalidRequest);
  return found;
}

void Translation::add(boost::json::object message, std::string where) {
  messages_.push_back(std::move(message));
  places_.push_back(std::move(where));
}

/// What was translated is named as the client wrote it.
void Translation::name_as_written(Violation& v,
                                  std::initializer_list<std::pair<std::string_view, std::string_view>> names) const {
  constexpr std::string_view kMessage = "messages[";
  if (v.field.starts_with(kMessage)) {
    const std::size_t end = v.field.find(']');
    const auto place =
        parse_integer<std::size_t>(std::string_view(v.field).substr(kMessage.size(), end - kMessage.size()));
    if (place && *place < places_.size()) v.field = places_[*place] + v.field.substr(end + 1);
    return;
  }
  for (const auto& [field, called] : names)
    if (v.field.starts_with(field)) {
      if (v.message.starts_with(field)) v.message = std::string(called) + v.message.substr(field.size());
      v.field = std::string(called) + v.field.substr(field.size());
      return;
    }
}

std::expected<CompletionRequest, Refused> Translation::read(
    const Bounds& bounds, std::initializer_list<std::pair<std::string_view, std::string_view>> names) {
  if (!fields.violations().empty()) return std::unexpected(Refused{fields.violations()});
  chat["messages"] = std::move(messages_);
  auto read = read_chat(chat, bounds);
  if (read) {
    read->ignored = fields.unknown();
    for (const auto& [field, called] : names)
      for (std::string* said : {&read->structure.field, &read->thought_field})
        if (*said == field) *said = called;
    return read;
  }
  for (Violation& v : read.error().violations) name_as_written(v, names);
  return read;
}

void pass_tools(Translation& t, const boost::json::value* given, const ToolSpelling& spelling) {
  if (!given) return;
  if (!given->is_array()) return t.refuse("tools", "a list is required", ErrorCode::kInvalidRequest);
  boost::json::array functions;
  for (std::size_t i = 0; i < given->get_array().size(); ++i) {
    const auto* o = given->get_array()[i].if_object();
    const std::string at = fmt::format("tools[{}]", i);
    const auto type = o ? json::find_text(*o, "type") : std::nullopt;
    const bool known = o && (type ? *type == spelling.type : spelling.by_default && !o->contains("type"));
    if (!known) return t.refuse(at, tools::wrong_type(type.value_or(""), spelling.type));
    if (json::find_bool(*o, "defer_loading").value_or(false)) continue;  // not before the client loads it
    boost::json::object function{{"name", json::find_text(*o, "name").value_or("")}};
    if (const auto text = json::find_text(*o, "description")) function["description"] = *text;
    if (const auto* schema = o->if_contains(spelling.schema); schema && !schema->is_null())
      function["parameters"] = *schema;
    if (const auto strict = json::find_bool(*o, "strict")) function["strict"] = *strict;
    functions.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  if (!functions.empty()) t.chat["tools"] = std::move(functions);
}

std::optional<std::string> text_of_blocks(Translation& t, const std::string& where, const boost::json::value& v) {
  if (v.is_string()) return std::string(v.get_string());
  if (v.is_null()) return "";
  const auto* list = v.if_array();
  if (!list) return t.refuse(where, "a text or a list of blocks", ErrorCode::kInvalidRequest), std::nullopt;
  std::string out;
  for (const auto& block : *list) {
    const auto* o = block.if_object();
    const auto type = o ? json::find_text(*o, "type") : std::nullopt;
    const auto text = o ? json::find_text(*o, type == "refusal" ? "refusal" : "text") : std::nullopt;
    const bool is_text = type == "text" || type == "input_text" || type == "output_text" || type == "refusal";
    if (!is_text || !text) return t.refuse(where, "only blocks of text are supported"), std::nullopt;
    if (!out.empty()) out += '\n';
    out += *text;
  }
  return out;
}

}  // namespace llorch::wire
