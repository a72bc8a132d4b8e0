#include "grammar/schema_shape.h"

#include <algorithm>
#include <cmath>

#include "grammar/limits.h"

namespace llorch {

using namespace grammar_limits;

namespace {

constexpr std::pair<std::string_view, std::uint8_t> kTypes[] = {
    {"null", kTypeNull},     {"boolean", kTypeBoolean}, {"integer", kTypeInteger}, {"number", kTypeNumber},
    {"string", kTypeString}, {"array", kTypeArray},     {"object", kTypeObject},   {"\1fraction", kTypeFraction}};

std::uint8_t type_named(std::string_view name) {
  for (const auto& [known, bits] : kTypes)
    if (known == name) return bits;
  return 0;
}

std::optional<std::uint32_t> count_of(const json::value& value) {
  const auto number = Decimal::of(value);
  if (!number || number->negative || !number->fraction.empty()) return std::nullopt;
  return number->whole.size() > 9 ? 999'999'999u : static_cast<std::uint32_t>(std::stoul(number->whole));
}

constexpr std::string_view kRefused[] = {"$dynamicRef",      "$recursiveRef", "unevaluatedProperties",
                                         "unevaluatedItems", "minContains",   "maxContains"};

/// Whether a keyword that is refused says something after all.
bool matters(std::string_view key, const json::value& value) {
  if (key.starts_with("unevaluated"))
    return !(value.is_bool() && value.get_bool()) && !(value.is_object() && value.get_object().empty());
  return true;
}

}  // namespace

std::uint8_t type_of(const json::value& value) {
  switch (value.kind()) {
    case boost::json::kind::null: return kTypeNull;
    case boost::json::kind::bool_: return kTypeBoolean;
    case boost::json::kind::string: return kTypeString;
    case boost::json::kind::array: return kTypeArray;
    case boost::json::kind::object: return kTypeObject;
    default: break;
  }
  if (!value.is_double()) return kTypeInteger;
  const double number = value.get_double();
  return std::isfinite(number) && std::trunc(number) == number ? kTypeInteger : kTypeFraction;
}

Refusal SchemaReader::too_large(const json::value* where) const {
  return {place(where), "grammar", "the schema takes too much work: too many combinations"};
}

bool SchemaReader::charge_copy(const SchemaShape& shape) {
  std::size_t shared = shape.strings.size() + shape.objects.size() + shape.unclear_names.size() + 4 * shape.some.size();
  for (const ObjectPart& part : shape.objects) shared += part.patterns.size();
  for (const SomeProperty& some : shape.some) shared += some.of.patterns.size();
  shared += shape.numbers.multiples.size() + shape.numbers.not_multiples.size();
  const std::size_t plain = shape.required.size() + shape.names.size() + shape.arrays.size() + shape.contains.size() +
                            shape.excluded.size() + (shape.allowed ? shape.allowed->size() : 0);
  return charge(4 + shared / 2 + plain / 8);
}

bool SchemaReader::charge_texts(const std::vector<std::string_view>& texts) {
  std::size_t steps = texts.size();
  for (const std::string_view text : texts) steps += text.size() / 4;
  return charge(steps);
}

SharedDfa SchemaReader::complement_of(const SharedDfa& dfa) {
  SharedDfa& known = complements_[dfa];
  if (!known) known = std::make_shared<const CharDfa>(dfa->complement());
  return known;
}

SchemaReader::Values SchemaReader::values_of(const std::vector<const json::value*>& list) {
  Values out;
  for (const json::value* value : list) {
    std::string text = canonical(*value);
    if (!charge(kValueSteps + text.size() / 16)) break;
    out.insert(std::move(text));
  }
  return out;
}

bool SchemaReader::among(const Values& values, const json::value& value) {
  if (values.empty()) return false;
  const std::string text = canonical(value);
  charge(kValueSteps + text.size() / 16);
  return values.contains(text);
}

Compiled<void> SchemaReader::gather_all(const SchemaItems& items, SchemaShape& shape,
                                        std::vector<SchemaChoice>& choices) {
  for (const SchemaItem& item : items) LLORCH_OK(gather(item, shape, choices));
  return {};
}

Compiled<void> SchemaReader::gather(const SchemaItem& given, SchemaShape& shape, std::vector<SchemaChoice>& choices) {
  SchemaItem item = given;
  while (const SchemaDocument::StandIn* other = document_.stands_for(*item.schema))
    item = {other->schema, item.negated != other->negated};
  if (++gathered_ > kGatherMax || !charge(1)) return std::unexpected(too_large(item.schema));
  if (depth_ > kNestingMax) return std::unexpected(at(*item.schema, "allOf", "schemas are joined more than 200 deep"));
  if (const bool* truth = item.schema->if_bool()) {
    if (*truth == item.negated) shape.types = 0;
    return {};
  }
  if (!item.schema->is_object())
    return std::unexpected(at(*item.schema, "$schema", "a schema is an object, true or false"));
  if (!shape.source) shape.source = item.schema;
  if (std::find(open_.begin(), open_.end(), item) != open_.end())
    return std::unexpected(at(*item.schema, "$ref", "the schema refers to itself without end"));
  open_.push_back(item), ++depth_;
  auto done = item.negated ? gather_negated(*item.schema, shape, choices) : gather_object(*item.schema, shape, choices);
  open_.pop_back(), --depth_;
  return done;
}

Compiled<void> SchemaReader::gather_negated(const json::value& schema, SchemaShape& shape,
                                            std::vector<SchemaChoice>& choices) {
  LLORCH_TRY(SchemaChoice choice, negation(schema));
  return add_choice(std::move(choice), shape, choices);
}

Compiled<void> SchemaReader::add_choice(SchemaChoice choice, SchemaShape& shape, std::vector<SchemaChoice>& choices) {
  if (choice.alternatives.empty()) {
    shape.types = 0;
    return {};
  }
  if (choice.alternatives.size() == 1) return gather_all(choice.alternatives[0], shape, choices);
  choices.push_back(std::move(choice));
  return {};
}

Compiled<void> SchemaReader::gather_object(const json::value& schema, SchemaShape& shape,
                                           std::vector<SchemaChoice>& choices) {
  const json::object& all = schema.get_object();
  if (!charge(2 * all.size())) return std::unexpected(too_large(&schema));
  const auto* alone = document_.ref_stands_alone() ? all.if_contains("$ref") : nullptr;
  if (!alone || !alone->is_string()) LLORCH_OK(gather_parts(all, schema, shape));  // its own properties come first
  if (const auto* ref = all.if_contains("$ref"); ref && ref->is_string()) {
    charge(ref->get_string().size() / 16);
    LLORCH_TRY(const json::value* target, document_.resolve(schema, ref->get_string()));
    LLORCH_OK(gather({target, false}, shape, choices));
    if (document_.ref_stands_alone()) return {};
  }
  for (const auto& [key, value] : all) {
    const std::string_view name = key;
    if (std::find(std::begin(kRefused), std::end(kRefused), name) != std::end(kRefused) && matters(name, value))
      return std::unexpected(at(schema, name, "this keyword is not supported"));
    if (name == "uniqueItems" && value.is_bool() && value.get_bool()) {
      const auto* most = all.if_contains("maxItems");
      if (!most || count_of(*most).value_or(9) > 1)
        return std::unexpected(
            at(schema, name, "items that must differ cannot be enforced; leave it out and check afterwards"));
    }
    LLORCH_TRY(bool known, gather_types(name, value, schema, shape));
    if (!known) {
      LLORCH_TRY(known, gather_number(name, value, all, schema, shape));
    }
    if (!known) {
      LLORCH_TRY(known, gather_string(name, value, schema, shape));
    }
    if (!known) {
      LLORCH_TRY(known, gather_counts(name, value, schema, shape));
    }
    if (!known) {
      LLORCH_TRY(known, gather_choices(name, value, all, schema, shape, choices));
    }
  }
  return {};
}

Compiled<bool> SchemaReader::gather_types(std::string_view key, const json::value& value, const json::value& schema,
                                          SchemaShape& shape) {
  const auto limit = [&](std::vector<const json::value*> allowed) {
    if (shape.allowed) {
      const Values before = values_of(*shape.allowed);
      std::erase_if(allowed, [&](const json::value* v) { return exhausted() || !among(before, *v); });
    }
    shape.allowed = std::move(allowed);
  };
  if (key == "type") {
    std::uint8_t types = 0;
    const auto add = [&](const json::value& name) {
      const std::uint8_t bits = name.is_string() ? type_named(name.get_string()) : std::uint8_t{0};
      types |= bits;
      return bits != 0 && (bits != kTypeFraction || document_.is_derived(schema));
    };
    bool good = true;
    if (const auto* list = value.if_array()) {
      charge(list->size() / 4);
      for (const json::value& name : *list) good = add(name) && good;
    } else {
      good = add(value);
    }
    if (!good)
      return std::unexpected(at(schema, key, "a type is one of null, boolean, integer, number, string, array, object"));
    const auto* nullable = schema.get_object().if_contains("nullable");
    if (nullable && nullable->is_bool() && nullable->get_bool()) types |= kTypeNull;
    shape.types &= types;
    return true;
  }
  if (key == "const") return limit({&value}), true;
  if (key == "enum") {
    const auto* list = value.if_array();
    if (!list) return std::unexpected(at(schema, key, "an enum is an array"));
    std::vector<const json::value*> values;
    if (!charge(list->size() / 4)) return std::unexpected(too_large(&schema));
    for (const json::value& v : *list) values.push_back(&v);
    return limit(std::move(values)), true;
  }
  if (key == "\1exclude" && document_.is_derived(schema)) {
    if (!charge(value.get_array().size())) return std::unexpected(too_large(&schema));
    for (const json::value& v : value.get_array()) shape.excluded.push_back(&v);
    return true;
  }
  return false;
}

Compiled<bool> SchemaReader::gather_number(std::string_view key, const json::value& value, const json::object& all,
                                           const json::value& schema, SchemaShape& shape) {
  const bool low = key == "minimum" || key == "exclusiveMinimum", high = key == "maximum" || key == "exclusiveMaximum";
  const bool multiple = key == "multipleOf", not_multiple = key == "\1notMultipleOf" && document_.is_derived(schema);
  if (!low && !high && !multiple && !not_multiple) return false;
  if (value.is_bool() && key.starts_with("exclusive")) return true;  // draft 4: read with the bound
  const auto bound = Decimal::of(value);
  if (!bound) return std::unexpected(at(schema, key, "the value is a number"));
  const auto* draft4 = all.if_contains(low ? "exclusiveMinimum" : "exclusiveMaximum");
  const bool open = key.starts_with("exclusive") || (draft4 && draft4->is_bool() && draft4->get_bool());
  if (low) shape.numbers.at_least(*bound, open);
  if (high) shape.numbers.at_most(*bound, open);
  if ((multiple || not_multiple) && (bound->negative || bound->zero()))
    return std::unexpected(at(schema, key, "a multiple is of a number above 0"));
  if (multiple) shape.numbers.multiples.push_back(*bound);
  if (not_multiple) shape.numbers.not_multiples.push_back(*bound);
  return true;
}

Compiled<bool> SchemaReader::gather_string(std::string_view key, const json::value& value, const json::value& schema,
                                           SchemaShape& shape) {
  const bool derived = document_.is_derived(schema);
  if (key == "pattern" || (derived && key == "\1notPattern")) {
    if (!value.is_string()) return std::unexpected(at(schema, key, "a pattern is a string"));
    LLORCH_TRY(const PatternDfa dfa, pattern_dfa(value.get_string(), schema, "pattern"));
    shape.strings.push_back(key == "pattern" ? dfa.certain : complement_of(dfa.possible));
    return true;
  }
  if (key == "format" || (derived && key == "\1notFormat")) {
    if (!value.is_string()) return std::unexpected(at(schema, key, "a format is a string"));
    if (value.get_string() == "regex")
      return std::unexpected(at(schema, key, "the format regex is not a regular language and cannot be enforced"));
    const PatternDfa dfa = format_dfa(value.get_string());
    if (dfa.certain) shape.strings.push_back(key == "format" ? dfa.certain : complement_of(dfa.possible));
    return true;
  }
  return false;
}

Compiled<bool> SchemaReader::gather_counts(std::string_view key, const json::value& value, const json::value& schema,
                                           SchemaShape& shape) {
  const std::pair<std::string_view, std::uint32_t*> least[] = {
      {"minLength", &shape.min_length}, {"minItems", &shape.min_items}, {"minProperties", &shape.min_properties}};
  const std::pair<std::string_view, std::uint32_t*> most[] = {
      {"maxLength", &shape.max_length}, {"maxItems", &shape.max_items}, {"maxProperties", &shape.max_properties}};
  for (const auto& [name, where] : least)
    if (key == name) {
      const auto count = count_of(value);
      if (!count) return std::unexpected(at(schema, key, "the value is a whole number, 0 or more"));
      *where = std::max(*where, *count);
      return true;
    }
  for (const auto& [name, where] : most)
    if (key == name) {
      const auto count = count_of(value);
      if (!count) return std::unexpected(at(schema, key, "the value is a whole number, 0 or more"));
      *where = std::min(*where, *count);
      return true;
    }
  if (key == "required") {
    const auto* list = value.if_array();
    if (!list) return std::unexpected(at(schema, key, "required is an array of names"));
    if (!charge(list->size())) return std::unexpected(too_large(&schema));
    for (const json::value& name : *list) {
      if (!name.is_string()) return std::unexpected(at(schema, key, "required is an array of names"));
      shape.required.push_back(name.get_string());
    }
    return true;
  }
  if (key == "propertyNames") return shape.names.push_back({&value, false}), true;
  if (key == "contains") return shape.contains.push_back({&value, false}), true;
  return false;
}

Compiled<bool> SchemaReader::gather_choices(std::string_view key, const json::value& value, const json::object& all,
                                            const json::value& schema, SchemaShape& shape,
                                            std::vector<SchemaChoice>& choices) {
  if (key == "allOf" || key == "anyOf" || key == "oneOf") {
    const auto* branches = value.if_array();
    if (!branches) return std::unexpected(at(schema, key, "the value is an array of schemas"));
    if (key == "oneOf") {
      LLORCH_OK(gather_one_of(*branches, schema, shape, choices));
      return true;
    }
    if (key == "allOf") {
      for (const json::value& branch : *branches) LLORCH_OK(gather({&branch, false}, shape, choices));
      return true;
    }
    SchemaChoice choice;
    if (!charge(kChoiceSteps * branches->size())) return std::unexpected(too_large(&schema));
    for (const json::value& branch : *branches) choice.alternatives.push_back({{&branch, false}});
    LLORCH_OK(add_choice(std::move(choice), shape, choices));
    return true;
  }
  if (key == "not") {
    LLORCH_OK(gather({&value, true}, shape, choices));
    return true;
  }
  if (key == "if") {
    SchemaChoice choice;
    choice.alternatives = {{{&value, false}}, {{&value, true}}};
    if (const auto* then = all.if_contains("then")) choice.alternatives[0].push_back({then, false});
    if (const auto* other = all.if_contains("else")) choice.alternatives[1].push_back({other, false});
    if (choice.alternatives[0].size() + choice.alternatives[1].size() > 2)
      LLORCH_OK(add_choice(std::move(choice), shape, choices));
    return true;
  }
  return gather_dependencies(key, value, schema, choices);
}

Compiled<bool> SchemaReader::gather_dependencies(std::string_view key, const json::value& value,
                                                 const json::value& schema, std::vector<SchemaChoice>& choices) {
  if (key != "dependencies" && key != "dependentRequired" && key != "dependentSchemas") return false;
  const auto* all = value.if_object();
  if (!all) return std::unexpected(at(schema, key, "the value is an object"));
  for (const auto& entry : *all) {
    const json::value& needed = entry.value();
    json::value* absent = made(needed, "absent", [&] {
      return json::object{{"properties", json::object{{entry.key(), false}}}};
    });
    json::value* present = made(needed, "present", [&] {
      json::array names;
      names.emplace_back(entry.key());
      if (needed.is_array()) names.insert(names.end(), needed.get_array().begin(), needed.get_array().end());
      if (needed.is_string()) names.push_back(needed);
      return json::object{{"type", "object"}, {"required", std::move(names)}};
    });
    if (exhausted()) return std::unexpected(too_large(&schema));
    SchemaChoice choice;
    choice.alternatives = {{{absent, false}}, {{present, false}}};
    if (!needed.is_array() && !needed.is_string()) choice.alternatives[1].push_back({&needed, false});
    choices.push_back(std::move(choice));
  }
  return true;
}

Compiled<ObjectPart> SchemaReader::object_part(const json::object& all, const json::value& schema,
                                               std::vector<PatternDfa>& unclear_names) {
  ObjectPart part;
  if (const auto* properties = all.if_contains("properties")) {
    part.properties = properties->if_object();
    if (!part.properties) return std::unexpected(at(schema, "properties", "the value is an object"));
  }
  if (const auto* patterns = all.if_contains("patternProperties")) {
    if (!patterns->is_object()) return std::unexpected(at(schema, "patternProperties", "the value is an object"));
    for (const auto& [pattern, value] : patterns->get_object()) {
      LLORCH_TRY(const PatternDfa dfa, pattern_dfa(pattern, schema, "patternProperties"));
      part.patterns.emplace_back(dfa.possible, &value);
      if (dfa.certain != dfa.possible) unclear_names.push_back(dfa);
    }
  }
  part.additional = all.if_contains("additionalProperties");
  return part;
}

bool SomeProperty::concerns(std::string_view name) const {
  if (pattern) return pattern->accepts(name);
  return !(of.properties && of.properties->contains(name)) &&
         std::none_of(of.patterns.begin(), of.patterns.end(), [&](const auto& p) { return p.first->accepts(name); });
}

/// Of a derived schema: the property that a negation asks for. `pattern` is empty for additionalProperties.
Compiled<void> SchemaReader::gather_some(const json::value& origin, std::string_view key, SchemaShape& shape) {
  const json::object& all = origin.get_object();
  SomeProperty some;
  if (key.starts_with('a')) {
    LLORCH_TRY(some.of, object_part(all, origin, shape.unclear_names));
    some.value = some.of.additional;
  } else {
    const std::string_view pattern = key.substr(1);
    LLORCH_TRY(const PatternDfa dfa, pattern_dfa(pattern, origin, "patternProperties"));
    some.pattern = dfa.certain;
    some.value = all.at("patternProperties").get_object().if_contains(pattern);
  }
  shape.some.push_back(std::move(some));
  return {};
}

Compiled<void> SchemaReader::gather_parts(const json::object& all, const json::value& schema, SchemaShape& shape) {
  LLORCH_TRY(ObjectPart part, object_part(all, schema, shape.unclear_names));
  if (part.properties || !part.patterns.empty() || part.additional) shape.objects.push_back(std::move(part));
  if (const auto* some = document_.is_derived(schema) ? all.if_contains("\1some") : nullptr)
    LLORCH_OK(gather_some(*document_.stands_for(*some)->schema, all.at("\1key").get_string(), shape));

  ArrayPart array;
  const auto* prefix = all.if_contains("prefixItems");
  const auto* items = all.if_contains("items");
  if (prefix && !document_.ref_stands_alone()) {
    array.prefix = prefix->if_array(), array.rest = items;
    if (!array.prefix) return std::unexpected(at(schema, "prefixItems", "the value is an array of schemas"));
  } else if (items && items->is_array()) {
    array.prefix = items->if_array(), array.rest = all.if_contains("additionalItems");
  } else {
    array.rest = items;
  }
  if (array.prefix || array.rest) shape.arrays.push_back(array);
  return {};
}

Compiled<bool> SchemaReader::disjoint(const json::value& a, const json::value& b) {
  const auto key = std::tuple(&a, &b, looking_);
  if (const auto known = disjoint_.find(key); known != disjoint_.end()) return known->second;
  charge(4);
  disjoint_.emplace(key, false);  // until it is known, should it ask for itself
  const auto saved = std::exchange(open_, {});
  SchemaShape shape;
  std::vector<SchemaChoice> choices;
  auto read = gather({&a, false}, shape, choices);
  if (read) read = gather({&b, false}, shape, choices);
  open_ = saved;
  LLORCH_OK(std::move(read));
  const bool apart = contradictory(shape);
  if (exhausted()) return std::unexpected(too_large(&a));
  disjoint_[key] = disjoint_[std::tuple(&b, &a, looking_)] = apart;
  return apart;
}

Compiled<void> SchemaReader::gather_one_of(const json::array& branches, const json::value& schema, SchemaShape& shape,
                                           std::vector<SchemaChoice>& choices) {
  // Exactly one: each branch, and none of those that it is not known to exclude.
  SchemaChoice choice;
  for (std::size_t i = 0; i < branches.size(); ++i) {
    SchemaItems items{{&branches[i], false}};
    if (!charge(branches.size())) return std::unexpected(too_large(&schema));
    for (std::size_t j = 0; j < branches.size(); ++j) {
      if (i == j) continue;
      LLORCH_TRY(const bool apart, disjoint(branches[i], branches[j]));
      if (!apart) items.push_back({&branches[j], true});
    }
    choice.alternatives.push_back(std::move(items));
  }
  if (choice.alternatives.empty()) return std::unexpected(at(schema, "oneOf", "the array is empty"));
  return add_choice(std::move(choice), shape, choices);
}

}  // namespace llorch
