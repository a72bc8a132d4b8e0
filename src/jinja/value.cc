#include "jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "jinja/limits.h"

namespace llorch::jinja {

const Value* Dict::find(std::string_view key) const {
  for (const auto& [k, value] : items)
    if (const Text* t = k.text(); t && t->bytes == key) return &value;
  return nullptr;
}

void Dict::set(Value key, Value value) {
  for (auto& [k, v] : items)
    if (equal(k, key)) {
      v = std::move(value);
      return;
    }
  items.emplace_back(std::move(key), std::move(value));
}

namespace {

void nest(Value& outer, const Value& inner) {
  outer.depth = std::max<std::uint16_t>(outer.depth, inner.depth + 1);
  outer.holds_namespace |= inner.holds_namespace;
  if (outer.depth > kDepthMax) throw Failure{"a value is nested too deeply"};
}

}  // namespace

Value::Value(List l) {
  for (const Value& item : l) nest(*this, item);
  v = std::make_shared<const List>(std::move(l));
}

Value::Value(Dict d) {
  for (const auto& [key, item] : d.items) nest(*this, key), nest(*this, item);
  holds_namespace |= d.is_namespace;
  if (d.is_namespace) depth = kDepthMax / 2;  // of whatever it may come to hold
  v = std::make_shared<Dict>(std::move(d));
}

Value make_tuple(List list) {
  Value v(std::move(list));
  v.tuple = true;
  return v;
}

std::int64_t Value::as_int() const {
  if (const bool* b = std::get_if<bool>(&v)) return *b ? 1 : 0;
  return std::get<std::int64_t>(v);
}

double Value::as_double() const {
  if (const double* d = std::get_if<double>(&v)) return *d;
  return static_cast<double>(as_int());
}

bool Value::truthy() const {
  if (undefined() || none()) return false;
  if (number()) return as_double() != 0;
  if (const Text* t = text()) return !t->bytes.empty();
  if (const List* l = list()) return !l->empty();
  if (const Dict* d = dict()) return d->is_namespace || !d->items.empty();
  return true;
}

void Budget::step(std::int64_t count) {
  steps += count;
  if (steps > kStepsMax) throw Failure{"the template takes too many steps"};
  work(static_cast<std::uint64_t>(count) * kUnitsPerStep);
}

void Budget::make(std::size_t size) {
  bytes += static_cast<std::int64_t>(size);
  if (bytes > kBytesMax) throw Failure{"the template makes too much text"};
  work(1 + size / kBytesPerUnit);
}

void Budget::stop(Error error) { throw Failure{std::move(error.message), error.code}; }

Value from_json(const boost::json::value& json) {
  switch (json.kind()) {
    case boost::json::kind::null: return None{};
    case boost::json::kind::bool_: return json.get_bool();
    case boost::json::kind::int64: return json.get_int64();
    case boost::json::kind::uint64: return static_cast<double>(json.get_uint64());
    case boost::json::kind::double_: return json.get_double();
    case boost::json::kind::string:
      return {std::string_view(json.get_string().data(), json.get_string().size()), false};
    case boost::json::kind::array: {
      List list;
      for (const auto& item : json.get_array()) list.push_back(from_json(item));
      return list;
    }
    case boost::json::kind::object: break;
  }
  Dict dict;
  for (const auto& [key, item] : json.get_object())
    dict.items.emplace_back(Value(std::string_view(key.data(), key.size()), false), from_json(item));
  return dict;
}

bool equal(const Value& a, const Value& b) {
  if (a.number() && b.number()) return a.as_double() == b.as_double();
  if (a.text() && b.text()) return a.text()->bytes == b.text()->bytes;
  if (a.none() || b.none() || a.undefined() || b.undefined())
    return (a.none() && b.none()) || (a.undefined() && b.undefined());
  if (const List* x = a.list(), *y = b.list(); x && y) {
    if (x->size() != y->size()) return false;
    for (std::size_t i = 0; i < x->size(); ++i)
      if (!equal((*x)[i], (*y)[i])) return false;
    return true;
  }
  if (const Dict* x = a.dict(), *y = b.dict(); x && y) {
    if (x == y) return true;
    if (x->items.size() != y->items.size()) return false;
    for (const auto& [key, value] : x->items) {
      const Value* other = key.text() ? y->find(key.text()->bytes) : nullptr;
      if (!other || !equal(value, *other)) return false;
    }
    return true;
  }
  return false;
}

int compare(const Value& a, const Value& b) {
  if (a.number() && b.number()) {
    const double x = a.as_double(), y = b.as_double();
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.text() && b.text()) return a.text()->bytes.compare(b.text()->bytes);
  if (const List* x = a.list(), *y = b.list(); x && y) {
    for (std::size_t i = 0; i < std::min(x->size(), y->size()); ++i)
      if (const int order = compare((*x)[i], (*y)[i]); order != 0) return order;
    return x->size() < y->size() ? -1 : x->size() > y->size() ? 1 : 0;
  }
  throw Failure{"these values have no order"};
}

/// Python's repr of a float: the shortest digits that read back, exponents below -4 and from 16.
std::string number_text(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer;
  const auto scientific =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, std::chars_format::scientific);
  const std::string text(buffer.data(), scientific.ptr);
  const std::size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  if (exponent < -4 || exponent >= 16)
    return fmt::format("{}e{}{:02}", text.substr(0, e), exponent < 0 ? '-' : '+', std::abs(exponent));
  const auto fixed = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, std::chars_format::fixed);
  std::string out(buffer.data(), fixed.ptr);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

namespace {

/// Python's repr of a string, as it appears inside a printed list.
Text quoted(const Text& text) {
  const bool has_single = text.bytes.find('\'') != std::string::npos,
             has_double = text.bytes.find('"') != std::string::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  Text out(std::string_view(&quote, 1), true);
  for (std::size_t i = 0; i < text.bytes.size(); ++i) {
    const char c = text.bytes[i];
    const bool trusted = text.trust[i] != 0;
    if (c == '\\' || c == quote)
      out.append(fmt::format("\\{}", c), trusted);
    else if (c == '\n')
      out.append("\\n", trusted);
    else if (c == '\t')
      out.append("\\t", trusted);
    else if (c == '\r')
      out.append("\\r", trusted);
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      out.append(fmt::format("\\x{:02x}", c), trusted);
    else
      out.append(std::string_view(&c, 1), trusted);
  }
  out.append(std::string_view(&quote, 1));
  return out;
}

Text inside(const Value& value) { return value.text() ? quoted(*value.text()) : to_text(value); }

}  // namespace

Text to_text(const Value& value) {
  if (value.undefined()) return {};
  if (value.none()) return {"None", true};
  if (const bool* b = std::get_if<bool>(&value.v)) return {*b ? "True" : "False", true};
  if (value.integer()) return {std::to_string(value.as_int()), true};
  if (value.number()) return {number_text(value.as_double()), true};
  if (const Text* t = value.text()) return *t;
  Text out;
  bool first = true;
  if (const List* list = value.list()) {
    out.append(value.tuple ? "(" : "[");
    for (const Value& item : *list) {
      if (!std::exchange(first, false)) out.append(", ");
      out.append(inside(item));
    }
    out.append(!value.tuple ? "]" : list->size() == 1 ? ",)" : ")");
  } else if (const Dict* dict = value.dict()) {
    out.append("{");
    for (const auto& [key, item] : dict->items) {
      if (!std::exchange(first, false)) out.append(", ");
      out.append(inside(key));
      out.append(": ");
      out.append(inside(item));
    }
    out.append("}");
  } else {
    throw Failure{"a function cannot be printed"};
  }
  return out;
}

namespace {

void json_string(const Text& text, Text& out) {
  out.append("\"");
  for (std::size_t i = 0; i < text.bytes.size(); ++i) {
    const char c = text.bytes[i];
    const bool trusted = text.trust[i] != 0;
    switch (c) {
      case '"': out.append("\\\"", trusted); break;
      case '\\': out.append("\\\\", trusted); break;
      case '\n': out.append("\\n", trusted); break;
      case '\r': out.append("\\r", trusted); break;
      case '\t': out.append("\\t", trusted); break;
      case '\b': out.append("\\b", trusted); break;
      case '\f': out.append("\\f", trusted); break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out.append(fmt::format("\\u{:04x}", static_cast<unsigned>(c)), trusted);
        else
          out.append(std::string_view(&c, 1), trusted);
    }
  }
  out.append("\"");
}

struct JsonWriter {
  int indent;
  Budget& budget;
  Text out;

  void line(int depth) {
    if (indent < 0) return;
    out.append("\n");
    out.append(std::string(static_cast<std::size_t>(indent * depth), ' '));
  }
  void write(const Value& value, int depth) {
    budget.step();
    if (depth > kDepthMax) throw Failure{"a value is nested too deeply"};
    if (const Text* t = value.text()) return json_string(*t, out);
    if (value.none()) return out.append("null");
    if (const bool* b = std::get_if<bool>(&value.v)) return out.append(*b ? "true" : "false");
    if (value.number()) return out.append(to_text(value));
    bool first = true;
    const auto next = [&] {
      if (!std::exchange(first, false)) out.append(indent < 0 ? ", " : ",");
      line(depth + 1);
    };
    if (const List* list = value.list()) {
      if (list->empty()) return out.append("[]");
      out.append("[");
      for (const Value& item : *list) next(), write(item, depth + 1);
      line(depth);
      return out.append("]");
    }
    const Dict* dict = value.dict();
    if (!dict) throw Failure{"tojson of something that JSON has not"};
    if (dict->items.empty()) return out.append("{}");
    out.append("{");
    for (const auto& [key, item] : dict->items) {
      next();
      json_string(to_text(key), out);
      out.append(": ");
      write(item, depth + 1);
    }
    line(depth);
    out.append("}");
  }
};

}  // namespace

Text to_json(const Value& value, int indent, Budget& budget) {
  JsonWriter writer{indent, budget, {}};
  writer.write(value, 0);
  budget.make(writer.out.bytes.size());
  return std::move(writer.out);
}

std::vector<std::size_t> code_points(std::string_view text) {
  std::vector<std::size_t> at;
  for (std::size_t i = 0; i < text.size(); ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) at.push_back(i);
  at.push_back(text.size());
  return at;
}

List items_of(const Value& value) {
  if (value.undefined()) return {};
  if (const List* list = value.list()) return *list;
  List out;
  if (const Dict* dict = value.dict()) {
    for (const auto& [key, item] : dict->items) out.push_back(key);
  } else if (const Text* text = value.text()) {
    const auto at = code_points(text->bytes);
    for (std::size_t i = 0; i + 1 < at.size(); ++i) out.emplace_back(text->part(at[i], at[i + 1] - at[i]));
  } else {
    throw Failure{"this value cannot be iterated"};
  }
  return out;
}

namespace {

/// What Python's str.strip() takes for white space.
bool is_space(std::string_view c) {
  if (c.size() == 1) {
    const auto b = static_cast<unsigned char>(c[0]);
    return b == ' ' || (b >= 9 && b <= 13) || (b >= 0x1c && b <= 0x1f);
  }
  static constexpr std::array<std::string_view, 19> kSpaces{
      "\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
      "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
  return std::ranges::find(kSpaces, c) != kSpaces.end();
}

}  // namespace

Text strip(const Text& text, const Text* characters, bool left, bool right) {
  const auto at = code_points(text.bytes);
  std::vector<std::string_view> set;
  if (characters) {
    const auto c = code_points(characters->bytes);
    for (std::size_t i = 0; i + 1 < c.size(); ++i)
      set.push_back(std::string_view(characters->bytes).substr(c[i], c[i + 1] - c[i]));
  }
  const auto gone = [&](std::size_t i) {
    const auto c = std::string_view(text.bytes).substr(at[i], at[i + 1] - at[i]);
    return characters ? std::ranges::find(set, c) != set.end() : is_space(c);
  };
  std::size_t first = 0, last = at.size() - 1;
  while (left && first < last && gone(first)) ++first;
  while (right && last > first && gone(last - 1)) --last;
  return text.part(at[first], at[last] - at[first]);
}

}  // namespace llorch::jinja
