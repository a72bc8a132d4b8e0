// Filters, tests and methods: what published chat templates use, as Jinja and Python define them.
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "jinja/limits.h"
#include "jinja/value.h"
#include "text/utf8.h"

namespace llorch::jinja {
namespace {

/// Argument `index`, or `name`, or nothing.
const Value* argument(const Arguments& a, std::size_t index, std::string_view name) {
  if (index < a.positional.size()) return &a.positional[index];
  const auto it = a.named.find(name);
  return it == a.named.end() ? nullptr : &it->second;
}
const Text& text_argument(const Arguments& a, std::size_t index, std::string_view name) {
  const Value* v = argument(a, index, name);
  if (!v || !v->text()) throw Failure{fmt::format("argument {} must be text", name)};
  return *v->text();
}
std::int64_t int_argument(const Arguments& a, std::size_t index, std::string_view name, std::int64_t otherwise) {
  const Value* v = argument(a, index, name);
  if (!v || v->none()) return otherwise;
  if (!v->integer()) throw Failure{fmt::format("argument {} must be an integer", name)};
  return v->as_int();
}
const Text& want_text(const Value& v, std::string_view what) {
  if (!v.text()) throw Failure{fmt::format("{} needs text", what)};
  return *v.text();
}

enum class Case { kUpper, kLower, kTitle, kCapitalize };

Text change_case(const Text& text, Case how) {
  Text out;
  const auto at = code_points(text.bytes);
  bool starts = true;
  for (std::size_t i = 0; i + 1 < at.size(); ++i) {
    const auto c = std::string_view(text.bytes).substr(at[i], at[i + 1] - at[i]);
    const auto code = static_cast<utf8proc_int32_t>(utf8_code_point(c, static_cast<int>(c.size())));
    const bool up = how == Case::kUpper || (how != Case::kLower && starts);
    std::string changed;
    utf8_append(changed, static_cast<char32_t>(up ? utf8proc_toupper(code) : utf8proc_tolower(code)));
    out.append(changed, text.trust[at[i]] != 0);
    const auto category = utf8proc_category(code);
    const bool letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
    starts = how == Case::kTitle ? !letter : false;
  }
  return out;
}

Text replace(const Text& text, const Text& from, const Text& to, std::int64_t count, Budget& budget) {
  Text out;
  std::size_t at = 0;
  if (from.bytes.empty()) {  // Python puts `to` before each character and at the end
    const auto points = code_points(text.bytes);
    for (std::size_t i = 0; i < points.size() && count != 0; ++i, --count) {
      budget.make(to.bytes.size());
      out.append(text.part(at, points[i] - at));
      out.append(to);
      at = points[i];
    }
  }
  for (; !from.bytes.empty() && count != 0; --count) {
    const std::size_t found = text.bytes.find(from.bytes, at);
    if (found == std::string::npos) break;
    budget.make(found - at + to.bytes.size());
    out.append(text.part(at, found - at));
    out.append(to);
    at = found + from.bytes.size();
  }
  out.append(text.part(at));
  budget.make(out.bytes.size());
  return out;
}

List split(const Text& text, const Value* separator, std::int64_t count, bool from_right) {
  List out;
  if (!separator || separator->none()) {  // runs of white space
    Text rest = strip(text, nullptr, true, true);
    while (!rest.bytes.empty()) {
      const auto points = code_points(rest.bytes);
      std::size_t end = rest.bytes.size();
      for (std::size_t i = 0; i + 1 < points.size() && count != 0; ++i)
        if (strip(rest.part(points[i], points[i + 1] - points[i]), nullptr, true, true).bytes.empty()) {
          end = points[i];
          break;
        }
      --count;
      out.emplace_back(rest.part(0, end));
      rest = strip(rest.part(end), nullptr, true, false);
    }
    return out;
  }
  const std::string& cut = want_text(*separator, "split").bytes;
  if (cut.empty()) throw Failure{"split with an empty separator"};
  if (from_right) {
    std::size_t end = text.bytes.size();
    for (; count != 0; --count) {
      const std::size_t found = end < cut.size() ? std::string::npos : text.bytes.rfind(cut, end - cut.size());
      if (found == std::string::npos) break;
      out.emplace_back(text.part(found + cut.size(), end - found - cut.size()));
      end = found;
    }
    out.emplace_back(text.part(0, end));
    std::ranges::reverse(out);
    return out;
  }
  std::size_t at = 0;
  for (; count != 0; --count) {
    const std::size_t found = text.bytes.find(cut, at);
    if (found == std::string::npos) break;
    out.emplace_back(text.part(at, found - at));
    at = found + cut.size();
  }
  out.emplace_back(text.part(at));
  return out;
}

Text join(const List& list, const Text& between, const Value* attribute_name, Budget& budget) {
  Text out;
  bool first = true;
  for (const Value& item : list) {
    if (!std::exchange(first, false)) out.append(between);
    out.append(to_text(attribute_name ? attribute(item, want_text(*attribute_name, "attribute").bytes, budget) : item));
    budget.make(1);
  }
  budget.make(out.bytes.size());
  return out;
}

bool affixed(const Text& text, const Arguments& a, bool start) {
  if (a.positional.empty()) throw Failure{"startswith and endswith need text"};
  const auto one = [&](const Value& v) {
    const std::string& fix = want_text(v, "startswith").bytes;
    return start ? text.bytes.starts_with(fix) : text.bytes.ends_with(fix);
  };
  if (const List* any = a.positional[0].list()) return std::ranges::any_of(*any, one);
  return one(a.positional[0]);
}

using TextMethod = Value (*)(const Text&, const Arguments&, Budget&);
const std::unordered_map<std::string_view, TextMethod>& text_methods() {
  static const std::unordered_map<std::string_view, TextMethod> methods{
      {"strip",
       [](const Text& t, const Arguments& a, Budget&) -> Value {
         return strip(t, a.positional.empty() || a.positional[0].none() ? nullptr : &text_argument(a, 0, "chars"), true,
                      true);
       }},
      {"lstrip",
       [](const Text& t, const Arguments& a, Budget&) -> Value {
         return strip(t, a.positional.empty() ? nullptr : &text_argument(a, 0, "chars"), true, false);
       }},
      {"rstrip",
       [](const Text& t, const Arguments& a, Budget&) -> Value {
         return strip(t, a.positional.empty() ? nullptr : &text_argument(a, 0, "chars"), false, true);
       }},
      {"split",
       [](const Text& t, const Arguments& a, Budget&) -> Value {
         return split(t, argument(a, 0, "sep"), int_argument(a, 1, "maxsplit", -1), false);
       }},
      {"rsplit",
       [](const Text& t, const Arguments& a, Budget&) -> Value {
         return split(t, argument(a, 0, "sep"), int_argument(a, 1, "maxsplit", -1), true);
       }},
      {"upper", [](const Text& t, const Arguments&, Budget&) -> Value { return change_case(t, Case::kUpper); }},
      {"lower", [](const Text& t, const Arguments&, Budget&) -> Value { return change_case(t, Case::kLower); }},
      {"title", [](const Text& t, const Arguments&, Budget&) -> Value { return change_case(t, Case::kTitle); }},
      {"capitalize",
       [](const Text& t, const Arguments&, Budget&) -> Value { return change_case(t, Case::kCapitalize); }},
      {"startswith", [](const Text& t, const Arguments& a, Budget&) -> Value { return affixed(t, a, true); }},
      {"endswith", [](const Text& t, const Arguments& a, Budget&) -> Value { return affixed(t, a, false); }},
      {"replace",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         return replace(t, text_argument(a, 0, "old"), text_argument(a, 1, "new"), int_argument(a, 2, "count", -1), b);
       }},
      {"join",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         return join(items_of(a.positional.empty() ? Value() : a.positional[0]), t, nullptr, b);
       }},
      {"find",
       [](const Text& t, const Arguments& a, Budget&) -> Value {
         const std::size_t at = t.bytes.find(text_argument(a, 0, "sub").bytes);
         return at == std::string::npos
                    ? std::int64_t{-1}
                    : static_cast<std::int64_t>(code_points(std::string_view(t.bytes).substr(0, at)).size()) - 1;
       }},
      {"count",
       [](const Text& t, const Arguments& a, Budget&) -> Value {
         const Value separator(text_argument(a, 0, "sub"));
         return static_cast<std::int64_t>(split(t, &separator, -1, false).size()) - 1;
       }},
  };
  return methods;
}

Value dict_method(const Dict& dict, std::string_view name, const Arguments& a) {
  List out;
  if (name == "get") {
    if (a.positional.empty()) throw Failure{"get needs a key"};
    for (const auto& [key, item] : dict.items)
      if (equal(key, a.positional[0])) return item;
    return a.positional.size() > 1 ? a.positional[1] : Value(None{});
  }
  for (const auto& [key, item] : dict.items) {
    if (name == "items")
      out.push_back(make_tuple({key, item}));
    else
      out.push_back(name == "keys" ? key : item);
  }
  return out;
}

std::size_t length_of(const Value& v) {
  if (const Text* t = v.text()) return code_points(t->bytes).size() - 1;
  return items_of(v).size();
}

/// The property by which map, select and sort look at an item: dotted names and integers.
Value by_attribute(const Value& item, const Value& path, Budget& budget) {
  if (path.integer()) return subscript(item, path, budget);
  Value at = item;
  const Value dot(".", true);
  for (const Value& part : split(want_text(path, "attribute"), &dot, -1, false))
    at = attribute(at, part.text()->bytes, budget);
  return at;
}

Value select(const Value& subject, const Arguments& a, bool by, bool keep, Budget& budget) {
  List out;
  const std::size_t test_at = by ? 1 : 0;
  for (const Value& item : items_of(subject)) {
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
  const auto by = a.named.find("attribute");
  for (const Value& item : items_of(subject)) {
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
  for (const Value& item : items_of(subject)) {
    budget.step(8);
    Value key = by ? by_attribute(item, *by, budget) : item;
    if (key.text() && !(sensitive && sensitive->truthy())) key = change_case(*key.text(), Case::kLower);
    keyed.emplace_back(std::move(key), item);
  }
  const bool down = reverse && reverse->truthy();
  std::ranges::stable_sort(keyed, [&](const auto& x, const auto& y) {
    return down ? compare(x.first, y.first) > 0 : compare(x.first, y.first) < 0;
  });
  List out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return out;
}

Value dictsort(const Value& subject) {
  const Dict* dict = subject.dict();
  if (!dict) throw Failure{"dictsort needs a dict"};
  Items items = dict->items;
  std::ranges::stable_sort(items, [](const auto& x, const auto& y) {
    return change_case(to_text(x.first), Case::kLower).bytes < change_case(to_text(y.first), Case::kLower).bytes;
  });
  List out;
  for (auto& [key, item] : items) out.push_back(make_tuple({key, item}));
  return out;
}

Value to_number(const Value& v, const Arguments& a, bool real) {
  const Value* otherwise = argument(a, 0, "default");
  const Value fallback = otherwise ? *otherwise : real ? Value(0.0) : Value(0);
  if (v.number())
    return real                              ? Value(v.as_double())
           : v.integer()                     ? Value(v.as_int())
           : std::fabs(v.as_double()) < 9e18 ? Value(static_cast<std::int64_t>(v.as_double()))
                                             : fallback;
  if (!v.text()) return fallback;
  const std::string text = strip(*v.text(), nullptr, true, true).bytes;
  double d = 0;
  const auto end = text.data() + text.size();
  if (text.empty() || std::from_chars(text.data(), end, d).ptr != end) return fallback;
  if (real) return d;
  std::int64_t i = 0;
  if (std::from_chars(text.data(), end, i).ptr == end) return i;
  return std::fabs(d) < 9e18 ? Value(static_cast<std::int64_t>(d)) : fallback;
}

Text indent(const Text& text, const Arguments& a) {
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
  const Value newline("\n", true);
  bool at_first = true;
  for (const Value& line : split(text, &newline, -1, false)) {
    const Text& t = *line.text();
    if (!at_first) out.append("\n");
    const bool wanted = at_first ? first && first->truthy() : !t.bytes.empty() || (blank && blank->truthy());
    if (wanted) out.append(pad);
    out.append(t);
    at_first = false;
  }
  return out;
}

Value unique(const Value& subject) {
  List out;
  for (const Value& item : items_of(subject))
    if (std::ranges::none_of(out, [&](const Value& x) {
          return x.text() && item.text()
                     ? change_case(*x.text(), Case::kLower).bytes == change_case(*item.text(), Case::kLower).bytes
                     : equal(x, item);
        }))
      out.push_back(item);
  return out;
}

Value extreme(const Value& subject, bool largest) {
  const List list = items_of(subject);
  if (list.empty()) return {};
  const auto less = [](const Value& x, const Value& y) { return compare(x, y) < 0; };
  return largest ? *std::ranges::max_element(list, less) : *std::ranges::min_element(list, less);
}

using Filter = Value (*)(const Value&, const Arguments&, Budget&);
const std::unordered_map<std::string_view, Filter>& text_filters() {
  static const std::unordered_map<std::string_view, Filter> table{
      {"tojson",
       [](const Value& v, const Arguments& a, Budget& b) -> Value {
         return to_json(v, static_cast<int>(std::clamp<std::int64_t>(int_argument(a, 4, "indent", -1), -1, 64)), b);
       }},
      {"trim",
       [](const Value& v, const Arguments& a, Budget&) -> Value {
         const Value* c = argument(a, 0, "chars");
         return strip(to_text(v), c ? c->text() : nullptr, true, true);
       }},
      {"length",
       [](const Value& v, const Arguments&, Budget&) -> Value { return static_cast<std::int64_t>(length_of(v)); }},
      {"upper",
       [](const Value& v, const Arguments&, Budget&) -> Value { return change_case(to_text(v), Case::kUpper); }},
      {"lower",
       [](const Value& v, const Arguments&, Budget&) -> Value { return change_case(to_text(v), Case::kLower); }},
      {"title",
       [](const Value& v, const Arguments&, Budget&) -> Value { return change_case(to_text(v), Case::kTitle); }},
      {"capitalize",
       [](const Value& v, const Arguments&, Budget&) -> Value { return change_case(to_text(v), Case::kCapitalize); }},
      {"join",
       [](const Value& v, const Arguments& a, Budget& b) -> Value {
         const Value* s = argument(a, 0, "d");
         return join(items_of(v), s ? to_text(*s) : Text(), argument(a, 1, "attribute"), b);
       }},
      {"default",
       [](const Value& v, const Arguments& a, Budget&) -> Value {
         const Value* otherwise = argument(a, 0, "default_value");
         const Value* falsy = argument(a, 1, "boolean");
         return v.undefined() || (falsy && falsy->truthy() && !v.truthy()) ? (otherwise ? *otherwise : Value("", true))
                                                                           : v;
       }},
      {"first",
       [](const Value& v, const Arguments&, Budget&) -> Value {
         const List l = items_of(v);
         return l.empty() ? Value() : l.front();
       }},
      {"last",
       [](const Value& v, const Arguments&, Budget&) -> Value {
         const List l = items_of(v);
         return l.empty() ? Value() : l.back();
       }},
      {"replace",
       [](const Value& v, const Arguments& a, Budget& b) -> Value {
         return replace(to_text(v), text_argument(a, 0, "old"), text_argument(a, 1, "new"),
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
      {"list", [](const Value& v, const Arguments&, Budget&) -> Value { return items_of(v); }},
      {"string", [](const Value& v, const Arguments&, Budget&) -> Value { return to_text(v); }},
      {"safe", [](const Value& v, const Arguments&, Budget&) -> Value { return v; }},
      {"int", [](const Value& v, const Arguments& a, Budget&) { return to_number(v, a, false); }},
      {"float", [](const Value& v, const Arguments& a, Budget&) { return to_number(v, a, true); }},
      {"items",
       [](const Value& v, const Arguments& a, Budget&) -> Value {
         if (v.undefined()) return List{};
         if (!v.dict()) throw Failure{"items needs a dict"};
         return dict_method(*v.dict(), "items", a);
       }},
      {"dictsort", [](const Value& v, const Arguments&, Budget&) { return dictsort(v); }},
      {"sort", sort},
      {"unique", [](const Value& v, const Arguments&, Budget&) { return unique(v); }},
      {"reverse",
       [](const Value& v, const Arguments&, Budget&) -> Value {
         List l = items_of(v);
         std::ranges::reverse(l);
         if (!v.text()) return l;
         Text t;
         for (const Value& c : l) t.append(*c.text());
         return t;
       }},
      {"abs",
       [](const Value& v, const Arguments&, Budget&) -> Value {
         if (!v.number()) throw Failure{"abs needs a number"};
         return v.integer() ? Value(v.as_int() < 0 ? -v.as_int() : v.as_int()) : Value(std::fabs(v.as_double()));
       }},
      {"indent",
       [](const Value& v, const Arguments& a, Budget& b) -> Value {
         Text t = indent(to_text(v), a);
         b.make(t.bytes.size());
         return t;
       }},
      {"max", [](const Value& v, const Arguments&, Budget&) { return extreme(v, true); }},
      {"min", [](const Value& v, const Arguments&, Budget&) { return extreme(v, false); }},
  };
  return table;
}

std::string_view alias(std::string_view name) {
  if (name == "count") return "length";
  if (name == "d") return "default";
  return name;
}

using Test = bool (*)(const Value&, const Arguments&);
const Value& other(const Arguments& a) {
  if (a.positional.empty()) throw Failure{"a test needs something to compare with"};
  return a.positional[0];
}
bool contains(const Value& where, const Value& what) {
  if (const Text* t = where.text()) return t->bytes.find(want_text(what, "in").bytes) != std::string::npos;
  return std::ranges::any_of(items_of(where), [&](const Value& item) { return equal(item, what); });
}
const std::unordered_map<std::string_view, Test>& tests() {
  static const std::unordered_map<std::string_view, Test> table{
      {"defined", [](const Value& v, const Arguments&) { return !v.undefined(); }},
      {"undefined", [](const Value& v, const Arguments&) { return v.undefined(); }},
      {"none", [](const Value& v, const Arguments&) { return v.none(); }},
      {"string", [](const Value& v, const Arguments&) { return v.text() != nullptr; }},
      {"number", [](const Value& v, const Arguments&) { return v.number(); }},
      {"integer", [](const Value& v, const Arguments&) { return v.is<std::int64_t>(); }},
      {"float", [](const Value& v, const Arguments&) { return v.is<double>(); }},
      {"boolean", [](const Value& v, const Arguments&) { return v.is<bool>(); }},
      {"true", [](const Value& v, const Arguments&) { return v.is<bool>() && v.truthy(); }},
      {"false", [](const Value& v, const Arguments&) { return v.is<bool>() && !v.truthy(); }},
      {"mapping", [](const Value& v, const Arguments&) { return v.dict() && !v.dict()->is_namespace; }},
      {"sequence", [](const Value& v, const Arguments&) { return v.list() || v.text() || v.dict(); }},
      {"iterable", [](const Value& v, const Arguments&) { return v.list() || v.text() || v.dict() || v.undefined(); }},
      {"callable", [](const Value& v, const Arguments&) { return v.function() != nullptr; }},
      {"even", [](const Value& v, const Arguments&) { return v.integer() && v.as_int() % 2 == 0; }},
      {"odd", [](const Value& v, const Arguments&) { return v.integer() && v.as_int() % 2 != 0; }},
      {"divisibleby",
       [](const Value& v, const Arguments& a) {
         return v.integer() && other(a).integer() && other(a).as_int() != 0 && v.as_int() % other(a).as_int() == 0;
       }},
      {"eq", [](const Value& v, const Arguments& a) { return equal(v, other(a)); }},
      {"ne", [](const Value& v, const Arguments& a) { return !equal(v, other(a)); }},
      {"lt", [](const Value& v, const Arguments& a) { return compare(v, other(a)) < 0; }},
      {"le", [](const Value& v, const Arguments& a) { return compare(v, other(a)) <= 0; }},
      {"gt", [](const Value& v, const Arguments& a) { return compare(v, other(a)) > 0; }},
      {"ge", [](const Value& v, const Arguments& a) { return compare(v, other(a)) >= 0; }},
      {"in", [](const Value& v, const Arguments& a) { return contains(other(a), v); }},
      {"lower",
       [](const Value& v, const Arguments&) {
         return v.text() && change_case(*v.text(), Case::kLower).bytes == v.text()->bytes;
       }},
      {"upper",
       [](const Value& v, const Arguments&) {
         return v.text() && change_case(*v.text(), Case::kUpper).bytes == v.text()->bytes;
       }},
  };
  return table;
}

}  // namespace

Value call_filter(std::string_view name, const Value& subject, const Arguments& arguments, Budget& budget) {
  for (const auto* table : {&text_filters(), &list_filters()})
    if (const auto it = table->find(alias(name)); it != table->end()) {
      if (const Text* t = subject.text()) budget.step(1 + static_cast<std::int64_t>(t->bytes.size() / 256));
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
  return it->second(subject, arguments);
}

Value attribute(const Value& object, std::string_view name, Budget& budget) {
  if (name.starts_with("_")) throw Failure{"names that begin with an underscore are not accessible"};
  if (object.undefined()) throw Failure{fmt::format("'{}' is undefined", std::get<Undefined>(object.v).name)};
  if (object.text()) {
    const auto it = text_methods().find(name);
    if (it != text_methods().end())
      return Function([method = it->second, object, &budget](const Arguments& a) {
        budget.step(1 + static_cast<std::int64_t>(object.text()->bytes.size() / 256));
        return method(*object.text(), a, budget);
      });
  }
  if (const Dict* dict = object.dict()) {
    if (!dict->is_namespace && (name == "items" || name == "keys" || name == "values" || name == "get")) {
      Value bound = Function(
          [object, method = std::string(name)](const Arguments& a) { return dict_method(*object.dict(), method, a); });
      bound.depth = static_cast<std::uint16_t>(object.depth + 1), bound.holds_namespace = object.holds_namespace;
      return bound;
    }
    if (const Value* found = dict->find(name)) return *found;
  }
  return Undefined{std::string(name)};
}

Value subscript(const Value& object, const Value& key, Budget& budget) {
  if (object.undefined()) throw Failure{fmt::format("'{}' is undefined", std::get<Undefined>(object.v).name)};
  if (key.integer() && (object.list() || object.text())) {
    budget.step(object.text() ? 1 + static_cast<std::int64_t>(object.text()->bytes.size() / 256) : 1);
    if (const List* list = object.list()) {
      const auto size = static_cast<std::int64_t>(list->size());
      const std::int64_t at = key.as_int() < 0 ? key.as_int() + size : key.as_int();
      return at < 0 || at >= size ? Value(Undefined{"item"}) : (*list)[static_cast<std::size_t>(at)];
    }
    const List characters = items_of(object);
    return subscript(Value(characters), key, budget);
  }
  if (const Dict* dict = object.dict())
    for (const auto& [k, item] : dict->items)
      if (equal(k, key)) return item;
  // A name out of a request reaches entries only, never methods, and no message.
  if (!key.text() || key.text()->trust.find('\0') != std::string::npos) return Undefined{"item"};
  return attribute(object, key.text()->bytes, budget);
}

}  // namespace llorch::jinja
