// Negation: a schema fails when one of its keywords does, so its negation is a choice between the keywords' negations.
//
// A keyword whose negation is no constraint that texts can be held to (uniqueItems, patternProperties) gives no
// alternative: what is produced then still fulfils the schema, but not all that fulfils it can be produced. Where no
// alternative is left, the schema is refused.
#include <algorithm>

#include "grammar/schema_shape.h"

namespace llorch {
namespace {

json::array list_of(std::string_view name) {
  json::array out;
  out.emplace_back(name);
  return out;
}

std::optional<std::uint64_t> whole(const json::value& value) {
  if (value.is_int64() && value.get_int64() >= 0) return static_cast<std::uint64_t>(value.get_int64());
  return std::nullopt;
}

}  // namespace

Compiled<SchemaChoice> SchemaReader::negation(const json::value& schema) {
  SchemaChoice out;
  bool lossy = false;
  const json::object& all = schema.get_object();
  const auto* ref = all.if_contains("$ref");
  if (ref && ref->is_string()) {
    LLORCH_TRY(const json::value* target, document_.resolve(schema, ref->get_string()));
    out.alternatives.push_back({{target, true}});
    if (document_.ref_stands_alone()) return out;
  }
  for (const auto& [key, value] : all) {
    charge(1);
    LLORCH_OK(negate_keyword(key, value, schema, out, lossy));
    if (exhausted()) return std::unexpected(too_large(&schema));
  }
  if (out.alternatives.empty() && lossy)
    return std::unexpected(at(schema, "not", "the negation of this schema cannot be enforced"));
  return out;
}

Compiled<void> SchemaReader::negate_keyword(std::string_view key, const json::value& value, const json::value& schema,
                                            SchemaChoice& out, bool& lossy) {
  if (negate_bounds(key, value, schema, out) || negate_parts(key, value, schema, out) ||
      negate_applied(key, value, schema, out))
    return {};
  constexpr std::string_view kCannot[] = {
      "propertyNames",    "uniqueItems", "unevaluatedProperties", "unevaluatedItems", "additionalItems",
      "dependentSchemas", "minContains", "maxContains",           "$dynamicRef",      "$recursiveRef"};
  if (std::find(std::begin(kCannot), std::end(kCannot), key) != std::end(kCannot)) lossy = true;
  return {};
}

bool SchemaReader::negate_bounds(std::string_view key, const json::value& value, const json::value& schema,
                                 SchemaChoice& out) {
  const auto add = [&](json::value derived) {
    const auto make = [&] { return std::move(derived); };
    out.alternatives.push_back({{made(schema, fmt::format("not {}", key), make), false}});
    return true;
  };
  const auto* exclusive = schema.get_object().if_contains(key == "minimum" ? "exclusiveMinimum" : "exclusiveMaximum");
  const bool open = exclusive && exclusive->is_bool() && exclusive->get_bool();  // draft 4
  if (key == "minimum") return add(json::object{{"type", "number"}, {open ? "maximum" : "exclusiveMaximum", value}});
  if (key == "maximum") return add(json::object{{"type", "number"}, {open ? "minimum" : "exclusiveMinimum", value}});
  if (key == "exclusiveMinimum") return value.is_bool() || add(json::object{{"type", "number"}, {"maximum", value}});
  if (key == "exclusiveMaximum") return value.is_bool() || add(json::object{{"type", "number"}, {"minimum", value}});
  if (key == "multipleOf") return add(json::object{{"type", "number"}, {"\1notMultipleOf", value}});
  if (key == "pattern") return add(json::object{{"type", "string"}, {"\1notPattern", value}});
  if (key == "format")
    return !value.is_string() || !format_dfa(value.get_string()).certain ||
           add(json::object{{"type", "string"}, {"\1notFormat", value}});
  constexpr std::tuple<std::string_view, std::string_view, std::string_view> kCounts[] = {
      {"Length", "string", "maxLength"}, {"Items", "array", "maxItems"}, {"Properties", "object", "maxProperties"}};
  for (const auto& [name, type, most] : kCounts) {
    if (key.size() != name.size() + 3 || !key.ends_with(name)) continue;
    const auto n = whole(value);
    if (!n) return true;  // gather() says that it is wrong
    if (key.starts_with("max")) return add(json::object{{"type", type}, {fmt::format("min{}", name), *n + 1}});
    if (key.starts_with("min")) return *n == 0 || add(json::object{{"type", type}, {most, *n - 1}});
  }
  return false;
}

bool SchemaReader::negate_parts(std::string_view key, const json::value& value, const json::value& schema,
                                SchemaChoice& out) {
  const auto derive = [&](std::string_view name, const auto& make) -> json::value& {
    json::value* derived = made(schema, fmt::format("not {} {}", key, name), make);
    out.alternatives.push_back({{derived, false}});
    return *derived;
  };
  if (key == "type") {
    if (value.is_array() && !charge(value.get_array().size() / 4)) return true;
    json::array types;
    const auto named = [&](std::string_view name) {
      if (value.is_string()) return std::string_view(value.get_string()) == name;
      return value.is_array() &&
             std::any_of(value.get_array().begin(), value.get_array().end(), [&](const json::value& v) {
               return v.is_string() && std::string_view(v.get_string()) == name;
             });
    };
    for (const std::string_view name : {"null", "boolean", "string", "array", "object"})
      if (!named(name)) types.emplace_back(name);
    if (!named("number")) types.emplace_back(named("integer") ? "\1fraction" : "number");
    if (!types.empty()) derive("", [&] { return json::object{{"type", std::move(types)}}; });
    return true;
  }
  if (key == "const" || key == "enum") {
    derive("", [&] {
      json::array values;
      if (key == "const")
        values.push_back(value);
      else if (value.is_array())
        values = value.get_array();
      return json::object{{"\1exclude", std::move(values)}};
    });
    return true;
  }
  if (key == "required" && value.is_array()) {
    for (const json::value& name : value.get_array())
      if (name.is_string() && !exhausted())
        derive(name.get_string(), [&] {
          return json::object{{"type", "object"}, {"properties", json::object{{name.get_string(), false}}}};
        });
    return true;
  }
  if (key == "properties" && value.is_object()) {
    for (const auto& pair : value.get_object()) {
      if (!charge(1)) return true;
      const std::string_view name = pair.key();
      const json::value& child = pair.value();
      if (child.is_bool() ? child.get_bool() : child.is_object() && child.get_object().empty()) continue;
      json::value& derived = derive(name, [&] {
        return json::object{
            {"type", "object"}, {"required", list_of(name)}, {"properties", json::object{{name, nullptr}}}};
      });
      document_.stand_in(derived.get_object()["properties"].get_object()[name], {&child, true});
    }
    return true;
  }
  const auto some = [&](std::string_view name) {
    json::value& derived = derive(name, [&] {
      return json::object{{"type", "object"}, {"\1some", nullptr}, {"\1key", name}};
    });
    document_.stand_in(derived.get_object()["\1some"], {&schema, false});
  };
  if (key == "additionalProperties") {
    const bool* truth = value.if_bool();
    if (!(truth && *truth) && !(value.is_object() && value.get_object().empty())) some("a");
    return true;
  }
  if (key == "patternProperties" && value.is_object()) {
    for (const auto& [pattern, child] : value.get_object())
      if (!exhausted()) some(fmt::format("p{}", std::string_view(pattern)));
    return true;
  }
  return false;
}

bool SchemaReader::negate_applied(std::string_view key, const json::value& value, const json::value& schema,
                                  SchemaChoice& out) {
  const auto& all = schema.get_object();
  if (key == "not") return out.alternatives.push_back({{&value, false}}), true;
  if (key == "allOf" && value.is_array()) {
    if (!charge(kChoiceSteps * value.get_array().size())) return true;
    for (const json::value& branch : value.get_array()) out.alternatives.push_back({{&branch, true}});
    return true;
  }
  if ((key == "anyOf" || key == "oneOf") && value.is_array()) {
    const json::array& branches = value.get_array();
    const std::size_t pairs = key == "oneOf" ? branches.size() * branches.size() / 2 : 0;
    if (!charge(branches.size() + kChoiceSteps * pairs)) return true;
    SchemaItems none;
    for (const json::value& branch : branches) none.push_back({&branch, true});
    out.alternatives.push_back(std::move(none));
    for (std::size_t i = 0; key == "oneOf" && i < branches.size(); ++i)
      for (std::size_t j = i + 1; j < branches.size(); ++j)
        out.alternatives.push_back({{&branches[i], false}, {&branches[j], false}});
    return true;
  }
  if (key == "if") {
    if (const auto* then = all.if_contains("then")) out.alternatives.push_back({{&value, false}, {then, true}});
    if (const auto* other = all.if_contains("else")) out.alternatives.push_back({{&value, true}, {other, true}});
    return true;
  }
  if (key == "items" && !value.is_array()) {
    if (all.contains("prefixItems")) return false;  // of later items alone: no alternative
    json::value* derived = made(schema, "not items", [] {
      return json::object{{"type", "array"}, {"contains", nullptr}};
    });
    document_.stand_in(derived->get_object()["contains"], {&value, true});
    out.alternatives.push_back({{derived, false}});
    return true;
  }
  if (key == "contains") {
    json::value* derived = made(schema, "not contains", [] {
      return json::object{{"type", "array"}, {"items", nullptr}};
    });
    document_.stand_in(derived->get_object()["items"], {&value, true});
    out.alternatives.push_back({{derived, false}});
    return true;
  }
  if ((key == "items" || key == "prefixItems") && value.is_array()) {
    const json::array& list = value.get_array();
    if (!charge(list.size() * list.size() / 2)) return true;
    for (std::size_t i = 0; i < list.size(); ++i) {
      json::value* derived = made(schema, fmt::format("not item {}", i), [&] {
        json::array prefix(i, json::value(true));
        prefix.emplace_back(nullptr);
        return json::object{{"type", "array"}, {"minItems", i + 1}, {"items", std::move(prefix)}};
      });
      document_.stand_in(derived->get_object()["items"].get_array()[i], {&list[i], true});
      out.alternatives.push_back({{derived, false}});
    }
    return true;
  }
  if ((key == "dependencies" || key == "dependentRequired" || key == "dependentSchemas") && value.is_object()) {
    for (const auto& pair : value.get_object()) {
      if (exhausted()) return true;
      const json::value& needed = pair.value();
      json::value* present = made(needed, "with", [&] {
        return json::object{{"type", "object"}, {"required", list_of(pair.key())}};
      });
      if (needed.is_array()) {
        for (const json::value& other : needed.get_array()) {
          if (!other.is_string() || exhausted()) continue;
          json::value* absent = made(other, "without", [&] {
            return json::object{{"properties", json::object{{other.get_string(), false}}}};
          });
          out.alternatives.push_back({{present, false}, {absent, false}});
        }
      } else {
        out.alternatives.push_back({{present, false}, {&needed, true}});
      }
    }
    return true;
  }
  return false;
}

}  // namespace llorch
