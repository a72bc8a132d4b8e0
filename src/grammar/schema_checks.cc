// Questions about a shape: what is below it, whether a value fulfils it, whether anything can.
#include <algorithm>

#include "grammar/limits.h"
#include "grammar/schema_shape.h"
#include "text/utf8.h"

namespace llorch {

using namespace grammar_limits;

namespace {

std::uint32_t characters(std::string_view text) {
  return static_cast<std::uint32_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

bool forbids(const SchemaItem& item, const SchemaDocument& document) {
  SchemaItem i = item;
  while (const SchemaDocument::StandIn* other = document.stands_for(*i.schema))
    i = {other->schema, i.negated != other->negated};
  const bool* truth = i.schema->if_bool();
  return truth && *truth == i.negated;
}

}  // namespace

bool same_value(const json::value& a, const json::value& b) {
  if (a.is_number() && b.is_number()) {
    const auto x = Decimal::of(a), y = Decimal::of(b);
    return x && y && Decimal::compare(*x, *y) == 0;
  }
  if (a.kind() != b.kind()) return false;
  if (const auto* x = a.if_array()) {
    const auto& y = b.get_array();
    return std::equal(x->begin(), x->end(), y.begin(), y.end(), same_value);
  }
  if (const auto* x = a.if_object()) {
    const auto& y = b.get_object();
    return x->size() == y.size() && std::all_of(x->begin(), x->end(), [&](const auto& pair) {
             const auto* other = y.if_contains(pair.key());
             return other && same_value(pair.value(), *other);
           });
  }
  return a == b;
}

std::string canonical(const json::value& value) {
  if (const auto number = Decimal::of(value))
    return fmt::format("{}{}.{};", number->negative ? "-" : "+", number->whole, number->fraction);
  if (const auto* text = value.if_string()) return fmt::format("{}\"{}", text->size(), std::string_view(*text));
  std::string out;
  if (const auto* array = value.if_array()) {
    out = "[";
    for (const json::value& child : *array) out += canonical(child);
    return out + "]";
  }
  if (const auto* object = value.if_object()) {
    std::map<std::string_view, const json::value*> sorted;
    for (const auto& pair : *object) sorted.emplace(pair.key(), &pair.value());
    out = "{";
    for (const auto& [name, child] : sorted)
      out.append(fmt::format("{}\"{}", name.size(), name)).append(canonical(*child));
    return out + "}";
  }
  return value.is_null() ? "n" : value.is_number() ? "?" : value.get_bool() ? "t" : "f";
}

namespace {

/// Steps to compare a value with another.
std::size_t size_of(const json::value& value) {
  if (const auto* text = value.if_string()) return 1 + text->size() / 32;
  std::size_t out = value.is_number() ? 3 : 1;
  if (const auto* array = value.if_array())
    for (const json::value& child : *array) out += size_of(child);
  if (const auto* object = value.if_object())
    for (const auto& pair : *object) out += 1 + size_of(pair.value());
  return out;
}

}  // namespace

bool SchemaReader::never(const SchemaItems& items) const {
  return std::any_of(items.begin(), items.end(), [&](const SchemaItem& i) { return forbids(i, document_); });
}

SchemaItems SchemaReader::property_items(const SchemaShape& shape, std::string_view name) {
  SchemaItems out;
  charge(1);
  for (const ObjectPart& part : shape.objects) {
    if (!charge(1 + part.patterns.size() * (1 + name.size() / 8))) break;
    bool matched = false;
    if (part.properties)
      if (const auto* value = part.properties->if_contains(name)) out.push_back({value, false}), matched = true;
    for (const auto& [dfa, value] : part.patterns)
      if (dfa->accepts(name)) out.push_back({value, false}), matched = true;
    if (!matched && part.additional) out.push_back({part.additional, false});
  }
  return out;
}

SchemaItems SchemaReader::array_items(const SchemaShape& shape, std::size_t index) {
  SchemaItems out;
  if (!charge(1 + shape.arrays.size())) return out;
  for (const ArrayPart& part : shape.arrays) {
    if (part.prefix && index < part.prefix->size())
      out.push_back({&(*part.prefix)[index], false});
    else if (part.rest)
      out.push_back({part.rest, false});
  }
  return out;
}

Compiled<PatternDfa> SchemaReader::pattern_dfa(std::string_view pattern, const json::value& schema,
                                               std::string_view keyword) {
  if (!charge(4 + pattern.size() / 64)) return std::unexpected(too_large(&schema));
  const auto too_many = [&] {
    return std::unexpected(at(schema, keyword, fmt::format("'{}' takes too many states", pattern)));
  };
  const auto known = patterns_.find(pattern);
  if (known != patterns_.end()) {
    if (!known->second.certain) return too_many();
    return known->second;
  }
  if (!charge(pattern.size())) return std::unexpected(too_large(&schema));
  bool vary = false;
  const auto read = [&](Pattern::Spaces spaces) -> Compiled<SharedDfa> {
    const auto parsed = Pattern::parse(pattern, spaces);
    if (!parsed)
      return std::unexpected(
          at(schema, keyword, fmt::format("'{}': {}: {}", pattern, parsed.error().pointer, parsed.error().message)));
    vary = parsed->has_spaces();
    auto dfa = CharDfa::search(*parsed, work_);
    if (!dfa) return SharedDfa{};
    return std::make_shared<const CharDfa>(*std::move(dfa));
  };
  PatternDfa out;
  LLORCH_TRY(out.certain, read(Pattern::Spaces::kCertain));
  out.possible = out.certain;
  if (out.certain && vary) {
    LLORCH_TRY(out.possible, read(Pattern::Spaces::kPossible));
    if (!out.possible) out.certain = nullptr;
  }
  patterns_[std::string(pattern)] = out;
  if (!out.certain) return too_many();
  return out;
}

Compiled<SharedDfa> SchemaReader::joined(const SharedDfa& a, const SharedDfa& b, const json::value* where) {
  if (!a || !b) return a ? a : b;
  auto both = CharDfa::both(*a, *b, work_);
  if (!both) return std::unexpected(too_large(where));
  return std::make_shared<const CharDfa>(*std::move(both));
}

Compiled<SharedDfa> SchemaReader::string_dfa(const SchemaShape& shape, bool whole) {
  SharedDfa out;
  for (const SharedDfa& dfa : shape.strings) {
    if (dfa->universal()) continue;
    LLORCH_TRY(out, joined(out, dfa, shape.source));
  }
  std::vector<std::string_view> excluded;
  for (const json::value* v : shape.excluded)
    if (v->is_string()) excluded.push_back(v->get_string());
  if (!excluded.empty()) {
    if (!charge_texts(excluded)) return std::unexpected(too_large(shape.source));
    const auto texts = CharDfa::of_texts(excluded);
    if (!texts) return std::unexpected(too_large(shape.source));
    LLORCH_TRY(out, joined(out, std::make_shared<const CharDfa>(texts->complement()), shape.source));
  }
  if (out && !charge(out->weight() / 8)) return std::unexpected(too_large(shape.source));
  const bool limited = shape.min_length > 0 || shape.max_length != kNone;
  if (!limited || (!out && !whole)) return out;
  if (out) {
    const auto [shortest, longest] = out->lengths();
    if (shortest == kNone || (shortest >= shape.min_length && longest != kNone && longest <= shape.max_length))
      return out;
    if (shortest >= shape.min_length && shape.max_length == kNone) return out;
  }
  auto length = CharDfa::length(shape.min_length, shape.max_length);
  if (!length)
    return std::unexpected(
        at(*shape.source, "maxLength", "together with a pattern or format this length takes too many states"));
  if (!charge(length->size() / 2)) return std::unexpected(too_large(shape.source));
  return joined(out, std::make_shared<const CharDfa>(*std::move(length)), shape.source);
}

Compiled<SharedDfa> SchemaReader::names_dfa(const SchemaShape& shape) {
  if (shape.names.empty() && shape.unclear_names.empty()) return SharedDfa{};
  SchemaShape name;
  for (const PatternDfa& pattern : shape.unclear_names) {
    LLORCH_TRY(const SharedDfa unclear, joined(pattern.possible, complement_of(pattern.certain), shape.source));
    name.strings.push_back(complement_of(unclear));
  }
  std::vector<SchemaChoice> choices;
  LLORCH_OK(gather_all(shape.names, name, choices));
  if (!choices.empty())
    return std::unexpected(at(*shape.names[0].schema, "propertyNames", "alternatives of names are not supported"));
  std::vector<std::string_view> texts;
  if (name.allowed || !(name.types & kTypeString)) {
    if (name.allowed && (name.types & kTypeString))
      for (const json::value* v : *name.allowed)
        if (v->is_string()) texts.push_back(v->get_string());
    auto dfa = charge_texts(texts) ? CharDfa::of_texts(texts) : std::nullopt;
    if (!dfa) return std::unexpected(too_large(shape.source));
    name.strings.push_back(std::make_shared<const CharDfa>(*std::move(dfa)));
  }
  return string_dfa(name, true);
}

Compiled<bool> SchemaReader::holds(const SchemaItems& items, const json::value& value, int depth) {
  const auto saved = std::exchange(open_, {});
  SchemaShape shape;
  std::vector<SchemaChoice> choices;
  auto read = gather_all(items, shape, choices);
  open_ = saved;
  LLORCH_OK(std::move(read));
  LLORCH_TRY(const bool fits, holds(shape, value, depth));
  if (!fits) return false;
  for (const SchemaChoice& choice : choices) {
    bool any = false;
    for (const SchemaItems& alternative : choice.alternatives) {
      if (any) break;
      LLORCH_TRY(any, holds(alternative, value, depth + 1));
    }
    if (!any) return false;
  }
  return true;
}

Compiled<bool> SchemaReader::holds(const SchemaShape& shape, const json::value& value, int depth) {
  if (depth > kNestingMax) return std::unexpected(too_large(shape.source));
  const std::size_t others = shape.excluded.size() + (shape.allowed ? shape.allowed->size() : 0);
  if (others && !charge(others * size_of(value))) return std::unexpected(too_large(shape.source));
  const auto same = [&](const json::value* v) { return same_value(*v, value); };
  if (shape.allowed && std::none_of(shape.allowed->begin(), shape.allowed->end(), same)) return false;
  if (std::any_of(shape.excluded.begin(), shape.excluded.end(), same)) return false;
  return holds_beside_values(shape, value, depth);
}

Compiled<bool> SchemaReader::holds_beside_values(const SchemaShape& shape, const json::value& value, int depth) {
  const std::size_t multiples = shape.numbers.multiples.size() + shape.numbers.not_multiples.size();
  if (!charge(2 + multiples + shape.strings.size())) return std::unexpected(too_large(shape.source));
  if (!(type_of(value) & shape.types)) return false;
  if (value.is_number()) {
    const auto fits = shape.numbers.holds(value);
    if (!fits) return std::unexpected(at(*shape.source, "multipleOf", "the multiple has too many digits"));
    return *fits;
  }
  if (const auto* text = value.if_string()) {
    if (!charge(text->size() / 16 * (1 + shape.strings.size()))) return std::unexpected(too_large(shape.source));
    const std::uint32_t length = characters(*text);
    return length >= shape.min_length && length <= shape.max_length &&
           std::all_of(shape.strings.begin(), shape.strings.end(),
                       [&](const SharedDfa& d) { return d->accepts(*text); });
  }
  if (const auto* array = value.if_array()) return holds_array(shape, *array, depth);
  if (const auto* object = value.if_object()) return holds_object(shape, *object, depth);
  return true;
}

Compiled<bool> SchemaReader::holds_array(const SchemaShape& shape, const json::array& value, int depth) {
  if (value.size() < shape.min_items || value.size() > shape.max_items) return false;
  for (std::size_t i = 0; i < value.size(); ++i) {
    LLORCH_TRY(const bool fits, holds(array_items(shape, i), value[i], depth + 1));
    if (!fits) return false;
  }
  for (const SchemaItem& item : shape.contains) {
    bool found = false;
    for (std::size_t i = 0; i < value.size() && !found; ++i) {
      LLORCH_TRY(found, holds(SchemaItems{item}, value[i], depth + 1));
    }
    if (!found) return false;
  }
  return true;
}

Compiled<bool> SchemaReader::holds_object(const SchemaShape& shape, const json::object& value, int depth) {
  if (value.size() < shape.min_properties || value.size() > shape.max_properties) return false;
  if (!charge(shape.required.size())) return std::unexpected(too_large(shape.source));
  for (const std::string_view name : shape.required)
    if (!value.contains(name)) return false;
  for (const SomeProperty& some : shape.some) {
    bool found = false;
    for (const auto& [name, child] : value) {
      if (!charge(1 + some.of.patterns.size())) return std::unexpected(too_large(shape.source));
      if (found || !some.concerns(name)) continue;
      LLORCH_TRY(found, holds(SchemaItems{{some.value, true}}, child, depth + 1));
    }
    if (!found) return false;
  }
  LLORCH_TRY(const SharedDfa names, names_dfa(shape));
  for (const auto& [name, child] : value) {
    if (names && !names->accepts(name)) return false;
    LLORCH_TRY(const bool fits, holds(property_items(shape, name), child, depth + 1));
    if (!fits) return false;
  }
  return true;
}

bool SchemaReader::no_value(const SchemaItems& items) {
  if (never(items)) return true;
  if (items.size() < 2 || looking_ >= 3) return false;
  const auto saved = std::exchange(open_, {});
  SchemaShape shape;
  std::vector<SchemaChoice> choices;
  ++looking_;
  const bool none = gather_all(items, shape, choices) && contradictory(shape);
  --looking_;
  open_ = saved;
  return none;
}

bool SchemaReader::no_object(const SchemaShape& shape) {
  if (!charge(shape.required.size())) return false;
  if (shape.min_properties > shape.max_properties) return true;
  return std::any_of(shape.required.begin(), shape.required.end(),
                     [&](std::string_view name) { return no_value(property_items(shape, name)); });
}

bool SchemaReader::contradictory(const SchemaShape& shape) {
  ++quiet_;
  const bool none = has_no_value(shape);
  --quiet_;
  return none;
}

bool SchemaReader::has_no_value(const SchemaShape& shape) {
  std::uint8_t types = shape.types;
  if (shape.allowed) {
    std::uint8_t left = 0;
    std::optional<Values> excluded;  // made when it is asked for
    for (const json::value* v : *shape.allowed) {
      const std::uint8_t type = type_of(*v);
      if ((types & ~left) == 0) break;
      if (!(type & types) || (type & left)) continue;
      if (type & (kTypeArray | kTypeObject)) {
        left |= type;
        continue;
      }
      if (!excluded) excluded = values_of(shape.excluded);
      if (!charge(1)) return false;
      if (among(*excluded, *v)) continue;
      if (const auto fits = holds_beside_values(shape, *v); !fits || *fits) left |= type;
    }
    types = left;
  }
  if (shape.numbers.empty()) types &= static_cast<std::uint8_t>(~kTypeNumber);
  if (shape.numbers.integer && shape.numbers.fractional) types &= static_cast<std::uint8_t>(~kTypeNumber);
  if (shape.min_length > shape.max_length) types &= static_cast<std::uint8_t>(~kTypeString);
  if (shape.min_items > shape.max_items) types &= static_cast<std::uint8_t>(~kTypeArray);
  if ((types & kTypeString) && shape.strings.size() > 1) {
    const auto dfa = string_dfa(shape, false);
    if (dfa && *dfa && (*dfa)->empty()) types &= static_cast<std::uint8_t>(~kTypeString);
  }
  if (types == kTypeObject) return no_object(shape);
  if (types == kTypeArray) {
    for (std::uint32_t i = 0; i < std::min(shape.min_items, 8u); ++i)
      if (no_value(array_items(shape, i))) return true;
    return false;
  }
  return types == 0;
}

}  // namespace llorch
