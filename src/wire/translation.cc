#include "wire/translation.h"

#include "format/json.h"

namespace llorch::wire {

void Translation::pass(std::string_view name, std::string_view as) {
  if (const auto* v = fields.take(name)) chat[as] = *v;
}

std::expected<CompletionRequest, Refused> Translation::read(
    const Bounds& bounds, std::initializer_list<std::pair<std::string_view, std::string_view>> names) {
  if (!fields.violations().empty()) return std::unexpected(Refused{fields.violations()});
  auto read = read_chat(chat, bounds);
  if (read) {
    read->ignored = fields.unknown();
    return read;
  }
  for (Violation& v : read.error().violations)
    for (const auto& [field, called] : names)
      if (v.field.starts_with(field)) {
        v.field = std::string(called) + v.field.substr(field.size());
        break;
      }
  return read;
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
