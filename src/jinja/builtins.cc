// Filters, tests and methods: what published chat templates use, as Jinja and Python define them.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#include "jinja/limits.h"
#include "jinja/value.h"

namespace llorch::jinja {
namespace {

Value dict_method(const Dict& dict, std::string_view name, const Arguments& a, Budget& budget) {
  List out;
  if (name == "get") {
    if (a.positional.empty()) throw Failure{"get needs a key"};
    if (const Value* found = dict.find(a.positional[0], budget)) return *found;
    return a.positional.size() > 1 ? a.positional[1] : Value(None{});
  }
  for (const auto& [key, item] : dict.items) {
    budget.make(name == "items" ? kTextValueBytes + 2 * sizeof(Value) : sizeof(Value));
    if (name == "items")
      out.push_back(make_tuple({key, item}));
    else
      out.push_back(name == "keys" ? key : item);
  }
  return out;
}

/// The property by which map, select and sort look at an item: dotted names and integers.
Value by_attribute(const Value& item, const Value& path, Budget& budget) {
  if (path.integer()) return subscript(item, path, budget);
  Value at = item;
  const Value dot(".", true);
  for (const Value& part : split(want_text(path, "attribute"), &dot, -1, false, budget))
    at = attribute(at, part.text()->bytes, budget);
  return at;
}

Value select(const Value& subject, const Arguments& a, bool by, bool keep, Budget& budget) {
  List out;
  if (!subject.truthy()) return out;  // as Jinja: of nothing, also of none, nothing is selected
  const std::size_t test_at = by ? 1 : 0;
  for (const Value& item : items_of(subject, budget)) {
    budget.step();
    const Value seen = by ? by_attribute(item, a.positional.empty() ? Value() : a.positional[0], budget) : item;
    bool passed = seen.truthy();
    if (a.positional.size() > test_at) {
      Arguments rest;
      rest.positional.assign(a.positional.begin() + static_cast<std::ptrdiff_t>(test_at) + 1, a.positional.end());
      passed = call_test(want_text(a.positional[test_at], "select").bytes, seen, rest, budget);
    }
    if (passed == keep) out.push_back(item);
  }
  return out;
}

Value map(const Value& subject, const Arguments& a, Budget& budget) {
  List out;
  if (!subject.truthy()) return out;
  const auto by = a.named.find("attribute");
  for (const Value& item : items_of(subject, budget)) {
    budget.step();
    if (by != a.named.end()) {
      Value value = by_attribute(item, by->second, budget);
      const auto otherwise = a.named.find("default");
      out.push_back(value.undefined() && otherwise != a.named.end() ? otherwise->second : std::move(value));
    } else {
      if (a.positional.empty()) throw Failure{"map needs a filter"};
      Arguments rest;
      rest.positional.assign(a.positional.begin() + 1, a.positional.end());
      out.push_back(call_filter(want_text(a.positional[0], "map").bytes, item, rest, budget));
    }
  }
  return out;
}

/// As Jinja sorts: text without regard to case unless case_sensitive.
Value sort(const Value& subject, const Arguments& a, Budget& budget) {
  const Value* reverse = argument(a, 0, "reverse");
  const Value* sensitive = argument(a, 1, "case_sensitive");
  const Value* by = argument(a, 2, "attribute");
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items_of(subject, budget)) {
    budget.step(8);
    budget.make(2 * sizeof(Value));
    Value key = by ? by_attribute(item, *by, budget) : item;
    if (key.text() && !(sensitive && sensitive->truthy())) key = change_case(*key.text(), Case::kLower, budget);
    keyed.emplace_back(std::move(key), item);
  }
  const bool down = reverse && reverse->truthy();
  std::ranges::stable_sort(keyed, [&](const auto& x, const auto& y) {
    return down ? compare(x.first, y.first, budget) > 0 : compare(x.first, y.first, budget) < 0;
  });
  List out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return out;
}

Value dictsort(const Value& subject, Budget& budget) {
  const Dict* dict = subject.dict();
  if (!dict) throw Failure{"dictsort needs a dict"};
  std::vector<std::pair<Value, const std::pair<Value, Value>*>> keyed;
  for (const auto& item : dict->items) {
    budget.make(kTextValueBytes + 2 * sizeof(Value));
    keyed.emplace_back(change_case(to_text(item.first, budget), Case::kLower, budget), &item);
  }
  std::ranges::stable_sort(keyed, [&](const auto& x, const auto& y) { return compare(x.first, y.first, budget) < 0; });
  List out;
  for (const auto& [key, item] : keyed) out.push_back(make_tuple({item->first, item->second}));
  return out;
}

Value to_number(const Value& v, const Arguments& a, bool real, Budget& budget) {
  const Value* otherwise = argument(a, 0, "default");
  const Value fallback = otherwise ? *otherwise : real ? Value(0.0) : Value(0);
  if (v.number())
    return real                              ? Value(v.as_double())
           : v.integer()                     ? Value(v.as_int())
           : std::fabs(v.as_double()) < 9e18 ? Value(static_cast<std::int64_t>(v.as_double()))
                                             : fallback;
  if (!v.text()) return fallback;
  const std::string text = strip(*v.text(), nullptr, true, true, budget).bytes;
  double d = 0;
  const auto end = text.data() + text.size();
  if (text.empty() || std::from_chars(text.data(), end, d).ptr != end) return fallback;
  if (real) return d;
  std::int64_t i = 0;
  if (std::from_chars(text.data(), end, i).ptr == end) return i;
  return std::fabs(d) < 9e18 ? Value(static_cast<std::int64_t>(d)) : fallback;
}

Text indent(const Text& text, const Arguments& a, Budget& budget) {
  const Value* width = argument(a, 0, "width");
  const Text pad =
      width && width->text()
          ? *width->text()
          : Text(std::string(
                     static_cast<std::size_t>(std::clamp<std::int64_t>(int_argument(a, 0, "width", 4), 0, 1000)), ' '),
                 true);
  const Value* first = argument(a, 1, "first");
  const Value* blank = argument(a, 2, "blank");
  Text out;
  bool at_first = true;
  for (std::size_t at = 0, end = 0; end != std::string::npos; at = end + 1) {
    end = find(text.bytes, "\n", at, budget);
    const Text line = text.part(at, end == std::string::npos ? end : end - at);
    budget.grow(out, 1 + line.bytes.size());
    if (!at_first) out.append("\n");
    const bool wanted = at_first ? first && first->truthy() : !line.bytes.empty() || (blank && blank->truthy());
    if (wanted) budget.grow(out, pad.bytes.size()), out.append(pad);
    out.append(line);
    at_first = false;
  }
  return out;
}

Value unique(const Value& subject, Budget& budget) {
  List out, others;
  std::unordered_set<std::string> texts;  // without regard to case
  for (const Value& item : items_of(subject, budget)) {
    if (const Text* t = item.text()) {
      budget.make(kTextValueBytes);
      if (!texts.insert(change_case(*t, Case::kLower, budget).bytes).second) continue;
    } else {
      if (std::ranges::any_of(others, [&](const Value& x) { return equal(x, item, budget); })) continue;
      others.push_back(item);
    }
    out.push_back(item);
  }
  return out;
}

Value extreme(const Value& subject, bool largest, Budget& budget) {
  const List list = items_of(subject, budget);
  if (list.empty()) return {};
  const auto less = [&](const Value& x, const Value& y) { return compare(x, y, budget) < 0; };
  return largest ? *std::ranges::max_element(list, less) : *std::ranges::min_element(list, less);
}

/// The first item, or the last.
Value at_end(const Value& subject, bool last, Budget& budget) {
  const List* list = subject.list();
  const Dict* dict = subject.dict();
  if (list ? list->empty() : dict && dict->items.empty()) return {};
  if (list) return last ? list->back() : list->front();
  if (dict) return last ? dict->items.back().first : dict->items.front().first;
  const std::size_t length = length_of(subject, budget);
  return length == 0 ? Value() : subscript(subject, last ? static_cast<std::int64_t>(length) - 1 : 0, budget);
}

Value reversed(const Value& subject, Budget& budget) {
  List list = items_of(subject, budget);
  std::ranges::reverse(list);
  if (!subject.text()) return list;
  return join(list, {}, nullptr, budget);
}

using Filter = Value (*)(const Value&, const Arguments&, Budget&);
const std::unordered_map<std::string_view, Filter>& text_filters() {
  static const std::unordered_map<std::string_view, Filter> table{
      {"tojson",
       [](const Value& v, const Arguments& a, Budget& b) -> Value {
         return to_json(v, static_cast<int>(std::clamp<std::int64_t>(int_argument(a, 4, "indent", -1), -1, 64)), b);
       }},
      {"trim",
       [](const Value& v, const Arguments& a, Budget& b) -> Value {
         const Value* c = argument(a, 0, "chars");
         return strip(to_text(v, b), c ? c->text() : nullptr, true, true, b);
       }},
      {"length",
       [](const Value& v, const Arguments&, Budget& b) -> Value { return static_cast<std::int64_t>(length_of(v, b)); }},
      {"upper",
       [](const Value& v, const Arguments&, Budget& b) -> Value {
         return change_case(to_text(v, b), Case::kUpper, b);
       }},
      {"lower",
       [](const Value& v, const Arguments&, Budget& b) -> Value {
         return change_case(to_text(v, b), Case::kLower, b);
       }},
      {"title",
       [](const Value& v, const Arguments&, Budget& b) -> Value {
         return change_case(to_text(v, b), Case::kTitle, b);
       }},
      {"capitalize",
       [](const Value& v, const Arguments&, Budget& b) -> Value {
         return change_case(to_text(v, b), Case::kCapitalize, b);
       }},
      {"join",
       [](const Value& v, const Arguments& a, Budget& b) -> Value {
         const Value* s = argument(a, 0, "d");
         return join(items_of(v, b), s ? to_text(*s, b) : Text(), argument(a, 1, "attribute"), b);
       }},
      {"default",
       [](const Value& v, const Arguments& a, Budget&) -> Value {
         const Value* otherwise = argument(a, 0, "default_value");
         const Value* falsy = argument(a, 1, "boolean");
         return v.undefined() || (falsy && falsy->truthy() && !v.truthy()) ? (otherwise ? *otherwise : Value("", true))
                                                                           : v;
       }},
      {"first", [](const Value& v, const Arguments&, Budget& b) -> Value { return at_end(v, false, b); }},
      {"last", [](const Value& v, const Arguments&, Budget& b) -> Value { return at_end(v, true, b); }},
      {"replace",
       [](const Value& v, const Arguments& a, Budget& b) -> Value {
         return replace(to_text(v, b), text_argument(a, 0, "old"), text_argument(a, 1, "new"),
                        int_argument(a, 2, "count", -1), b);
       }},
  };
  return table;
}

const std::unordered_map<std::string_view, Filter>& list_filters() {
  static const std::unordered_map<std::string_view, Filter> table{
      {"map", map},
      {"select", [](const Value& v, const Arguments& a, Budget& b) { return select(v, a, false, true, b); }},
      {"reject", [](const Value& v, const Arguments& a, Budget& b) { return select(v, a, false, false, b); }},
      {"selectattr", [](const Value& v, const Arguments& a, Budget& b) { return select(v, a, true, true, b); }},
      {"rejectattr", [](const Value& v, const Arguments& a, Budget& b) { return select(v, a, true, false, b); }},
      {"list", [](const Value& v, const Arguments&, Budget& b) -> Value { return items_of(v, b); }},
      {"string", [](const Value& v, const Arguments&, Budget& b) -> Value { return to_text(v, b); }},
      {"safe",
       [](const Value& v, const Arguments&, Budget& b) -> Value {
         Value safe = v.text() ? v : Value(to_text(v, b));
         safe.markup = true;
         return safe;
       }},
      {"int", [](const Value& v, const Arguments& a, Budget& b) { return to_number(v, a, false, b); }},
      {"float", [](const Value& v, const Arguments& a, Budget& b) { return to_number(v, a, true, b); }},
      {"items",
       [](const Value& v, const Arguments& a, Budget& b) -> Value {
         if (v.undefined()) return List{};
         if (!v.dict()) throw Failure{"items needs a dict"};
         return dict_method(*v.dict(), "items", a, b);
       }},
      {"dictsort", [](const Value& v, const Arguments&, Budget& b) { return dictsort(v, b); }},
      {"sort", sort},
      {"unique", [](const Value& v, const Arguments&, Budget& b) { return unique(v, b); }},
      {"reverse", [](const Value& v, const Arguments&, Budget& b) { return reversed(v, b); }},
      {"abs",
       [](const Value& v, const Arguments&, Budget&) -> Value {
         if (!v.number()) throw Failure{"abs needs a number"};
         if (v.integer() && v.as_int() == std::numeric_limits<std::int64_t>::min())
           throw Failure{"a number is out of range"};
         return v.integer() ? Value(v.as_int() < 0 ? -v.as_int() : v.as_int()) : Value(std::fabs(v.as_double()));
       }},
      {"indent", [](const Value& v, const Arguments& a, Budget& b) -> Value { return indent(to_text(v, b), a, b); }},
      {"max", [](const Value& v, const Arguments&, Budget& b) { return extreme(v, true, b); }},
      {"min", [](const Value& v, const Arguments&, Budget& b) { return extreme(v, false, b); }},
  };
  return table;
}

std::string_view alias(std::string_view name) {
  if (name == "count") return "length";
  if (name == "d") return "default";
  return name;
}

using Test = bool (*)(const Value&, const Arguments&, Budget&);
const Value& other(const Arguments& a) {
  if (a.positional.empty()) throw Failure{"a test needs something to compare with"};
  return a.positional[0];
}
bool contains(const Value& where, const Value& what, Budget& budget) {
  if (const Text* t = where.text()) return find(t->bytes, want_text(what, "in").bytes, 0, budget) != std::string::npos;
  if (const Dict* dict = where.dict()) return dict->find(what, budget) != nullptr;
  if (where.undefined()) return false;
  if (!where.list()) throw Failure{"this value cannot be iterated"};
  return std::ranges::any_of(*where.list(), [&](const Value& item) { return equal(item, what, budget); });
}
const std::unordered_map<std::string_view, Test>& tests() {
  static const std::unordered_map<std::string_view, Test> table{
      {"defined", [](const Value& v, const Arguments&, Budget&) { return !v.undefined(); }},
      {"undefined", [](const Value& v, const Arguments&, Budget&) { return v.undefined(); }},
      {"none", [](const Value& v, const Arguments&, Budget&) { return v.none(); }},
      {"string", [](const Value& v, const Arguments&, Budget&) { return v.text() != nullptr; }},
      {"number", [](const Value& v, const Arguments&, Budget&) { return v.number(); }},
      {"integer", [](const Value& v, const Arguments&, Budget&) { return v.is<std::int64_t>(); }},
      {"float", [](const Value& v, const Arguments&, Budget&) { return v.is<double>(); }},
      {"boolean", [](const Value& v, const Arguments&, Budget&) { return v.is<bool>(); }},
      {"true", [](const Value& v, const Arguments&, Budget&) { return v.is<bool>() && v.truthy(); }},
      {"false", [](const Value& v, const Arguments&, Budget&) { return v.is<bool>() && !v.truthy(); }},
      {"mapping", [](const Value& v, const Arguments&, Budget&) { return v.dict() && !v.dict()->is_namespace; }},
      {"sequence", [](const Value& v, const Arguments&, Budget&) { return v.list() || v.text() || v.dict(); }},
      {"iterable",
       [](const Value& v, const Arguments&, Budget&) { return v.list() || v.text() || v.dict() || v.undefined(); }},
      {"callable", [](const Value& v, const Arguments&, Budget&) { return v.function() != nullptr; }},
      {"even", [](const Value& v, const Arguments&, Budget&) { return v.integer() && v.as_int() % 2 == 0; }},
      {"odd", [](const Value& v, const Arguments&, Budget&) { return v.integer() && v.as_int() % 2 != 0; }},
      {"divisibleby",
       [](const Value& v, const Arguments& a, Budget&) {
         if (!v.integer() || !other(a).integer() || other(a).as_int() == 0) return false;
         return other(a).as_int() == -1 ||
                v.as_int() % other(a).as_int() == 0;  // the least integer has no quotient by -1
       }},
      {"eq", [](const Value& v, const Arguments& a, Budget& b) { return equal(v, other(a), b); }},
      {"ne", [](const Value& v, const Arguments& a, Budget& b) { return !equal(v, other(a), b); }},
      {"lt", [](const Value& v, const Arguments& a, Budget& b) { return compare(v, other(a), b) < 0; }},
      {"le", [](const Value& v, const Arguments& a, Budget& b) { return compare(v, other(a), b) <= 0; }},
      {"gt", [](const Value& v, const Arguments& a, Budget& b) { return compare(v, other(a), b) > 0; }},
      {"ge", [](const Value& v, const Arguments& a, Budget& b) { return compare(v, other(a), b) >= 0; }},
      {"in", [](const Value& v, const Arguments& a, Budget& b) { return contains(other(a), v, b); }},
      {"lower", [](const Value& v, const Arguments&,
                   Budget& b) { return v.text() && change_case(*v.text(), Case::kLower, b).bytes == v.text()->bytes; }},
      {"upper", [](const Value& v, const Arguments&,
                   Budget& b) { return v.text() && change_case(*v.text(), Case::kUpper, b).bytes == v.text()->bytes; }},
  };
  return table;
}

}  // namespace

Value call_filter(std::string_view name, const Value& subject, const Arguments& arguments, Budget& budget) {
  const Deeper deeper(budget);  // map('map', 'map', ...) calls itself
  for (const auto* table : {&text_filters(), &list_filters()})
    if (const auto it = table->find(alias(name)); it != table->end()) {
      budget.work(kUnitsPerStep);
      return it->second(subject, arguments, budget);
    }
  throw Failure{fmt::format("the filter '{}' is not supported", name.substr(0, 40))};
}

bool call_test(std::string_view name, const Value& subject, const Arguments& arguments, Budget& budget) {
  budget.step();
  static const std::unordered_map<std::string_view, std::string_view> kOther{
      {"equalto", "eq"}, {"==", "eq"}, {"!=", "ne"},          {"<", "lt"}, {"lessthan", "lt"},
      {"<=", "le"},      {">", "gt"},  {"greaterthan", "gt"}, {">=", "ge"}};
  const auto same = kOther.find(name);
  const auto it = tests().find(same == kOther.end() ? name : same->second);
  if (it == tests().end()) throw Failure{fmt::format("the test '{}' is not supported", name.substr(0, 40))};
  return it->second(subject, arguments, budget);
}

Value attribute(const Value& object, std::string_view name, Budget& budget) {
  if (name.starts_with("_")) throw Failure{"names that begin with an underscore are not accessible"};
  if (object.undefined()) throw Failure{fmt::format("'{}' is undefined", std::get<Undefined>(object.v).name)};
  if (object.text()) {
    if (const TextMethod method = text_method(name))
      return Function([method, object, &budget](const Arguments& a) {
        budget.step();
        return method(*object.text(), a, budget);
      });
  }
  if (const Dict* dict = object.dict()) {
    if (!dict->is_namespace && (name == "items" || name == "keys" || name == "values" || name == "get")) {
      Value bound = Function([object, method = std::string(name), &budget](const Arguments& a) {
        return dict_method(*object.dict(), method, a, budget);
      });
      bound.depth = static_cast<std::uint16_t>(object.depth + 1), bound.holds_namespace = object.holds_namespace;
      return bound;
    }
    if (const Value* found = dict->find(name, budget)) return *found;
  }
  return Undefined{std::string(name)};
}

Value subscript(const Value& object, const Value& key, Budget& budget) {
  if (object.undefined()) throw Failure{fmt::format("'{}' is undefined", std::get<Undefined>(object.v).name)};
  if (key.integer() && (object.list() || object.text())) {
    budget.work(kUnitsPerVisit);
    const auto size = static_cast<std::int64_t>(length_of(object, budget));
    const std::int64_t at = key.as_int() < 0 ? key.as_int() + size : key.as_int();
    if (at < 0 || at >= size) return Undefined{"item"};
    if (const List* list = object.list()) return (*list)[static_cast<std::size_t>(at)];
    const std::size_t begin = point_offset(object.text()->bytes, static_cast<std::size_t>(at), budget);
    const std::size_t count = point_offset(std::string_view(object.text()->bytes).substr(begin), 1, budget);
    return object.text()->part(begin, count);
  }
  if (const Dict* dict = object.dict())
    if (const Value* found = dict->find(key, budget)) return *found;
  // A name out of a request reaches entries only, never methods, and no message.
  if (!key.text() || key.text()->trust.find('\0') != std::string::npos) return Undefined{"item"};
  return attribute(object, key.text()->bytes, budget);
}

}  // namespace llorch::jinja
