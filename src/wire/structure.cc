#include "wire/structure.h"

#include <boost/json.hpp>

#include <algorithm>

namespace llorch::wire {
namespace {

constexpr std::size_t kTextMax = 4u << 20, kChoicesMax = 10'000;
using Kind = Structure::Kind;

class StructureReader {
 public:
  explicit StructureReader(Fields& fields) : f_(fields) {}
  [[nodiscard]] Structure take() { return std::move(out_); }

  void response_format(const boost::json::value& v) {
    constexpr std::string_view kField = "response_format";
    const auto* o = v.if_object();
    const auto* type = o ? o->if_contains("type") : nullptr;
    if (!type || !type->is_string())
      return bad(kField, "an object with type", "response_format must be an object with a type");
    const std::string_view kind = type->get_string();
    if (kind == "text") return;
    if (kind == "json_object") {
      if (const auto* schema = o->if_contains("schema")) return json_schema(kField, *schema);
      set(Kind::kJsonObject, kField, {});
      return;
    }
    if (kind == "json_schema" || kind == "json") {
      const auto* named = o->if_contains(kind == "json" ? "value" : "json_schema");
      const auto* inner = named ? named->if_object() : nullptr;
      const auto* schema = kind == "json" ? named : inner ? inner->if_contains("schema") : o->if_contains("schema");
      if (!schema)
        return bad("response_format.json_schema.schema", "required", "response_format.json_schema.schema is required");
      return json_schema(kField, *schema);
    }
    for (const auto& [spelling, means] : {std::pair{"regex", Kind::kRegex}, {"grammar", Kind::kGbnf}})
      if (kind == spelling) return text(kField, means, first_of(*o, {spelling, "pattern", "value"}));
    f_.violation(kField, "text, json_object, json_schema, regex or grammar",
                 "response_format.type must be text, json_object, json_schema, regex or grammar",
                 ErrorCode::kUnsupportedValue);
  }

  void structured_outputs(const boost::json::value& v) {
    constexpr std::string_view kField = "structured_outputs";
    const auto* o = v.if_object();
    if (!o) return bad(kField, "object", "structured_outputs must be an object");
    bool compact = false;
    for (const auto& [key, value] : *o) {
      if (value.is_null()) continue;
      if (key == "json") {
        json_schema(kField, value);
      } else if (key == "regex") {
        text(kField, Kind::kRegex, &value);
      } else if (key == "grammar") {
        text(kField, Kind::kGbnf, &value);
      } else if (key == "choice") {
        choice(kField, value);
      } else if (key == "disable_any_whitespace" && value.is_bool()) {
        compact = value.get_bool();
      } else if (key == "json_object" && value.is_bool() && value.get_bool()) {
        set(Kind::kJsonObject, kField, {});
      } else if (!value.is_bool() || value.get_bool()) {  // a refinement that is on
        f_.violation(fmt::format("structured_outputs.{}", std::string_view(key).substr(0, 64)), "not supported",
                     "structured_outputs has a field that is not supported", ErrorCode::kUnsupportedValue);
      }
    }
    out_.compact = compact;
  }

  void json_schema(std::string_view field, const boost::json::value& v) {
    if (v.is_string()) return text(field, Kind::kJsonSchema, &v);
    if (!v.is_object() && !v.is_bool())
      return bad(field, "a JSON schema", fmt::format("{} must hold a JSON schema", field));
    set(Kind::kJsonSchema, field, boost::json::serialize(v));
  }

  void text(std::string_view field, Kind kind, const boost::json::value* v) {
    if (!v || !v->is_string() || v->get_string().empty() || v->get_string().size() > kTextMax)
      return bad(field, fmt::format("a text of 1 to {} bytes", kTextMax), fmt::format("{} must hold a text", field));
    set(kind, field, std::string(v->get_string()));
  }

  void choice(std::string_view field, const boost::json::value& v) {
    const auto* list = v.if_array();
    const bool texts =
        list && std::ranges::all_of(*list, [](const auto& c) { return c.is_string() && !c.get_string().empty(); });
    if (!texts || list->empty() || list->size() > kChoicesMax)
      return bad(field, fmt::format("1 to {} texts that are not empty", kChoicesMax),
                 fmt::format("{} must hold 1 to {} texts, none of them empty", field, kChoicesMax));
    if (!set(Kind::kChoice, field, {})) return;
    for (const auto& c : *list) out_.choices.emplace_back(c.get_string());
  }

 private:
  void bad(std::string_view field, std::string constraint, std::string message) {
    f_.violation(field, std::move(constraint), std::move(message));
  }
  static const boost::json::value* first_of(const boost::json::object& o,
                                            std::initializer_list<std::string_view> names) {
    for (const std::string_view name : names)
      if (const auto* v = o.if_contains(name)) return v;
    return nullptr;
  }
  bool set(Kind kind, std::string_view field, std::string what) {
    if (out_.kind != Kind::kNone) {
      bad(field, "once", fmt::format("{} and {} both say what the answer must look like", out_.field, field));
      return false;
    }
    out_.kind = kind, out_.text = std::move(what), out_.field = field;
    return true;
  }

  Fields& f_;
  Structure out_;
};

}  // namespace

std::string_view name(Structure::Kind kind) {
  constexpr std::string_view kNames[] = {"none", "json_schema", "json_object", "regex", "grammar", "choice"};
  return kNames[static_cast<std::size_t>(kind)];
}

Structure read_structure(Fields& f) {
  StructureReader r(f);
  if (const auto* v = f.take("response_format")) r.response_format(*v);
  if (const auto* v = f.take("structured_outputs")) r.structured_outputs(*v);
  for (const std::string_view field : {"guided_json", "json_schema"})
    if (const auto* v = f.take(field)) r.json_schema(field, *v);
  for (const std::string_view field : {"guided_regex", "regex"})
    if (const auto* v = f.take(field)) r.text(field, Kind::kRegex, v);
  for (const std::string_view field : {"guided_grammar", "grammar", "ebnf"})
    if (const auto* v = f.take(field)) r.text(field, Kind::kGbnf, v);
  if (const auto* v = f.take("guided_choice")) r.choice("guided_choice", *v);
  f.text("guided_decoding_backend", 64);  // which library another server would use
  return r.take();
}

}  // namespace llorch::wire
