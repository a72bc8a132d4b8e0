#include "jinja/value.h"

#include <algorithm>

#include "jinja/limits.h"

namespace llorch::jinja {

const Value* Dict::find(std::string_view key, Budget& budget) const {
  std::uint64_t compared = 0;
  const auto found = std::ranges::find_if(items, [&](const auto& item) {
    const Text* t = item.first.text();
    if (!t || t->bytes.size() != key.size()) return false;
    compared += 1 + key.size() / kBytesPerUnit;
    return t->bytes == key;
  });
  budget.work(1 + compared + static_cast<std::uint64_t>(found - items.begin()) / 2);
  return found == items.end() ? nullptr : &found->second;
}

const Value* Dict::find(const Value& key, Budget& budget) const {
  if (const Text* t = key.text()) return find(t->bytes, budget);
  for (const auto& [k, value] : items)
    if (equal(k, key, budget)) return &value;
  return nullptr;
}

void Dict::set(Value key, Value value, Budget& budget) {
  if (const Value* found = find(key, budget)) {
    const_cast<Value&>(*found) = std::move(value);
    return;
  }
  budget.make(2 * sizeof(Value));
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
  if (steps > kStepsMax || steps < 0) throw Failure{"the template takes too many steps"};
  work(static_cast<std::uint64_t>(count) * kUnitsPerStep);
}

void Budget::make(std::size_t size) {
  bytes += static_cast<std::int64_t>(std::min(size, kTextMax + 1));
  if (size > kTextMax || bytes > kBytesMax) throw Failure{"the template makes too much text"};
  work(1 + size / kBytesPerUnit);
}

Deeper::Deeper(Budget& b) : budget(b) {
  if (b.depth >= kDepthMax * 2) throw Failure{"the template calls itself too deeply"};
  ++b.depth;
}

void Budget::stop(Error error) { throw Failure{std::move(error.message), error.code}; }

namespace {

Value read_json(const boost::json::value& json, int depth, Budget* budget) {
  if (depth > kDepthMax) throw Failure{"a value is nested too deeply"};
  if (budget) budget->work(kUnitsPerVisit);
  switch (json.kind()) {
    case boost::json::kind::null: return None{};
    case boost::json::kind::bool_: return json.get_bool();
    case boost::json::kind::int64: return json.get_int64();
    case boost::json::kind::uint64: return static_cast<double>(json.get_uint64());
    case boost::json::kind::double_: return json.get_double();
    case boost::json::kind::string:
      if (budget) budget->make(kTextValueBytes + json.get_string().size());
      return {std::string_view(json.get_string().data(), json.get_string().size()), false};
    case boost::json::kind::array: {
      if (budget) budget->make(kTextValueBytes + json.get_array().size() * sizeof(Value));
      List list;
      list.reserve(json.get_array().size());
      for (const auto& item : json.get_array()) list.push_back(read_json(item, depth + 1, budget));
      return list;
    }
    case boost::json::kind::object: break;
  }
  Dict dict;
  for (const auto& [key, item] : json.get_object()) {
    if (budget) budget->make(kTextValueBytes + key.size() + 2 * sizeof(Value));
    dict.items.emplace_back(Value(std::string_view(key.data(), key.size()), false), read_json(item, depth + 1, budget));
  }
  return dict;
}

}  // namespace

Value from_json(const boost::json::value& json, Budget& budget) { return read_json(json, 0, &budget); }

Value from_json(const boost::json::value& json) { return read_json(json, 0, nullptr); }

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.work(kUnitsPerVisit);
  if (a.integer() && b.integer()) return a.as_int() == b.as_int();
  if (a.number() && b.number()) return a.as_double() == b.as_double();
  if (a.text() && b.text()) {
    if (a.text()->bytes.size() != b.text()->bytes.size()) return false;
    budget.work(a.text()->bytes.size() / kBytesPerUnit);
    return a.text()->bytes == b.text()->bytes;
  }
  if (a.none() || b.none() || a.undefined() || b.undefined())
    return (a.none() && b.none()) || (a.undefined() && b.undefined());
  if (const List* x = a.list(), *y = b.list(); x && y) {
    if (x->size() != y->size()) return false;
    for (std::size_t i = 0; i < x->size(); ++i)
      if (!equal((*x)[i], (*y)[i], budget)) return false;
    return true;
  }
  if (const Dict* x = a.dict(), *y = b.dict(); x && y) {
    if (x == y) return true;
    if (x->items.size() != y->items.size()) return false;
    for (const auto& [key, value] : x->items) {
      const Value* other = y->find(key, budget);
      if (!other || !equal(value, *other, budget)) return false;
    }
    return true;
  }
  return false;
}

int compare(const Value& a, const Value& b, Budget& budget) {
  budget.work(kUnitsPerVisit);
  if (a.integer() && b.integer()) return a.as_int() < b.as_int() ? -1 : a.as_int() > b.as_int() ? 1 : 0;
  if (a.number() && b.number()) {
    const double x = a.as_double(), y = b.as_double();
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.text() && b.text()) {
    budget.work(std::min(a.text()->bytes.size(), b.text()->bytes.size()) / kBytesPerUnit);
    return a.text()->bytes.compare(b.text()->bytes);
  }
  if (const List* x = a.list(), *y = b.list(); x && y) {
    for (std::size_t i = 0; i < std::min(x->size(), y->size()); ++i)
      if (const int order = compare((*x)[i], (*y)[i], budget); order != 0) return order;
    return x->size() < y->size() ? -1 : x->size() > y->size() ? 1 : 0;
  }
  throw Failure{"these values have no order"};
}

List items_of(const Value& value, Budget& budget) {
  if (value.undefined()) return {};
  if (const List* list = value.list()) {
    budget.make(list->size() * sizeof(Value));
    return *list;
  }
  List out;
  if (const Dict* dict = value.dict()) {
    budget.make(dict->items.size() * sizeof(Value));
    for (const auto& [key, item] : dict->items) out.push_back(key);
  } else if (const Text* text = value.text()) {
    const auto at = code_points(text->bytes, budget);
    for (std::size_t i = 0; i + 1 < at.size(); ++i) {
      budget.make(kTextValueBytes);
      out.emplace_back(text->part(at[i], at[i + 1] - at[i]));
    }
  } else {
    throw Failure{"this value cannot be iterated"};
  }
  return out;
}

std::size_t length_of(const Value& value, Budget& budget) {
  if (value.undefined()) return 0;
  if (const List* list = value.list()) return list->size();
  if (const Dict* dict = value.dict()) return dict->items.size();
  if (const Text* text = value.text()) return count_points(text->bytes, budget);
  throw Failure{"this value cannot be iterated"};
}

}  // namespace llorch::jinja
