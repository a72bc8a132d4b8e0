// Operations on texts, as Python's str defines them. All run in linear time and charge it.
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "jinja/limits.h"
#include "jinja/value.h"
#include "text/utf8.h"

namespace llorch::jinja {

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

namespace {

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

/// Calls each(offset) where a code point begins; ends early when it gives false.
template<class Each>
void walk_points(std::string_view text, Budget& budget, const Each& each) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t end = std::min(text.size(), i + kBytesPerLook);
    budget.work((end - i) / 4);
    for (; i < end; ++i)
      if (!continues(text[i]) && !each(i)) return;
  }
}

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

/// The code point that begins at `at`, with what follows it up to the next one.
std::string_view point_at(std::string_view text, std::size_t at) {
  std::size_t end = at + 1;
  while (end < text.size() && continues(text[end])) ++end;
  return text.substr(at, end - at);
}
/// The code point that ends at `end`.
std::string_view point_before(std::string_view text, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && continues(text[at])) --at;
  return text.substr(at, end - at);
}

void add_piece(const Text& text, std::size_t at, std::size_t size, List& out, Budget& budget) {
  budget.make(kTextValueBytes + size);
  out.emplace_back(text.part(at, size));
}

List split_at_spaces(const Text& text, std::int64_t count, Budget& budget) {
  List out;
  const std::string_view bytes = text.bytes;
  std::size_t at = 0;
  while (true) {
    while (at < bytes.size() && is_space(point_at(bytes, at))) at += point_at(bytes, at).size();
    if (at >= bytes.size()) return out;
    std::size_t end = at;
    if (count-- == 0) end = bytes.size();
    for (std::size_t looked = at; end < bytes.size() && !is_space(point_at(bytes, end));) {
      end += point_at(bytes, end).size();
      if (end - looked >= kBytesPerLook) budget.work((end - looked) / 4), looked = end;
    }
    add_piece(text, at, end - at, out, budget);
    at = end;
  }
}

List split_at_spaces_from_right(const Text& text, std::int64_t count, Budget& budget) {
  List out;
  const std::string_view bytes = text.bytes;
  std::size_t end = bytes.size();
  while (true) {
    while (end > 0 && is_space(point_before(bytes, end))) end -= point_before(bytes, end).size();
    if (end == 0) break;
    std::size_t at = end;
    if (count-- == 0) at = 0;
    for (std::size_t looked = at; at > 0 && !is_space(point_before(bytes, at));) {
      at -= point_before(bytes, at).size();
      if (looked - at >= kBytesPerLook) budget.work((looked - at) / 4), looked = at;
    }
    add_piece(text, at, end - at, out, budget);
    end = at;
  }
  std::ranges::reverse(out);
  return out;
}

/// Where `cut` stands, from the right, without overlaps, ascending.
std::vector<std::size_t> places_from_right(std::string_view text, std::string_view cut, std::int64_t count,
                                           Budget& budget) {
  budget.make(text.size() + cut.size());
  const std::string turned(text.rbegin(), text.rend()), turned_cut(cut.rbegin(), cut.rend());
  std::vector<std::size_t> places;
  for (std::size_t at = 0; count != 0; --count) {
    const std::size_t found = find(turned, turned_cut, at, budget);
    if (found == std::string::npos) break;
    at = found + cut.size();
    places.push_back(text.size() - at);
  }
  std::ranges::reverse(places);
  return places;
}

/// A count below zero means all.
std::int64_t whole(std::int64_t count) { return count < 0 ? std::numeric_limits<std::int64_t>::max() : count; }

}  // namespace

std::vector<std::size_t> code_points(std::string_view text, Budget& budget) {
  std::vector<std::size_t> at;
  const std::size_t count = count_points(text, budget);
  budget.make((count + 1) * sizeof(std::size_t));
  at.reserve(count + 1);
  walk_points(text, budget, [&](std::size_t i) { return at.push_back(i), true; });
  at.push_back(text.size());
  return at;
}

std::size_t count_points(std::string_view text, Budget& budget) {
  std::size_t count = 0;
  walk_points(text, budget, [&](std::size_t) { return ++count, true; });
  return count;
}

std::size_t point_offset(std::string_view text, std::size_t index, Budget& budget) {
  std::size_t offset = text.size();
  walk_points(text, budget, [&](std::size_t i) {
    if (index-- == 0) offset = i;
    return offset == text.size();
  });
  return offset;
}

std::size_t find(std::string_view text, std::string_view what, std::size_t at, Budget& budget) {
  if (what.empty()) return at <= text.size() ? at : std::string::npos;
  while (at < text.size() && what.size() <= text.size() - at) {
    // memmem is linear, unlike std::string::find; it prepares `what` at each call.
    const std::size_t size = std::min(text.size() - at, std::max(std::size_t{1} << 20, 2 * what.size()));
    budget.work(1 + what.size() / 8);
    const void* found = memmem(text.data() + at, size, what.data(), what.size());
    const std::size_t offset = found ? static_cast<std::size_t>(static_cast<const char*>(found) - text.data()) : 0;
    budget.work((found ? offset - at : size) / kBytesPerUnit);
    if (found) return offset;
    if (size == text.size() - at) break;
    at += size - what.size() + 1;
  }
  return std::string::npos;
}

Text strip(const Text& text, const Text* characters, bool left, bool right, Budget& budget) {
  std::vector<std::string_view> set;
  if (characters) {
    const auto c = code_points(characters->bytes, budget);
    for (std::size_t i = 0; i + 1 < c.size(); ++i)
      set.push_back(std::string_view(characters->bytes).substr(c[i], c[i + 1] - c[i]));
  }
  const auto gone = [&](std::string_view c) {
    budget.work(1 + set.size() / 4);
    return characters ? std::ranges::find(set, c) != set.end() : is_space(c);
  };
  const std::string_view bytes = text.bytes;
  std::size_t first = 0, last = bytes.size();
  while (left && first < last && gone(point_at(bytes, first))) first += point_at(bytes, first).size();
  while (right && last > first && gone(point_before(bytes, last))) last -= point_before(bytes, last).size();
  last = std::max(first, last);
  budget.make(last - first);
  return text.part(first, last - first);
}

Text change_case(const Text& text, Case how, Budget& budget) {
  Text out;
  bool starts = true;
  std::string changed;
  std::size_t looked = 0;
  budget.make(text.bytes.size());
  for (std::size_t i = 0; i < text.bytes.size();) {
    if (i - looked >= kBytesPerLook) budget.work(2 * (i - looked)), looked = i;
    const bool up = how == Case::kUpper || (how != Case::kLower && starts);
    const auto c = static_cast<unsigned char>(text.bytes[i]);
    const int size = c < 0x80 ? 1 : utf8_sequence(std::string_view(text.bytes).substr(i));
    bool letter = false;
    if (c < 0x80 || size <= 0) {
      const bool small = c >= 'a' && c <= 'z', capital = c >= 'A' && c <= 'Z';
      letter = small || capital;
      out.bytes += static_cast<char>(small && up ? c - 32 : capital && !up ? c + 32 : c), out.trust += text.trust[i];
    } else {
      const auto code = static_cast<utf8proc_int32_t>(utf8_code_point(std::string_view(text.bytes).substr(i), size));
      changed.clear();
      utf8_append(changed, static_cast<char32_t>(up ? utf8proc_toupper(code) : utf8proc_tolower(code)));
      out.append(changed, text.trust[i] != 0);
      const auto category = utf8proc_category(code);
      letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
    }
    starts = how == Case::kTitle ? !letter : false;
    i += static_cast<std::size_t>(std::max(1, size));
  }
  budget.work(2 * (text.bytes.size() - looked));
  return out;
}

Text replace(const Text& text, const Text& from, const Text& to, std::int64_t count, Budget& budget) {
  Text out;
  std::size_t at = 0;
  count = whole(count);
  const auto put = [&](std::size_t end) {
    budget.grow(out, end - at + to.bytes.size());
    out.bytes.append(text.bytes, at, end - at), out.trust.append(text.trust, at, end - at);
    out.append(to);
  };
  if (from.bytes.empty()) {  // Python puts `to` before each character and at the end
    const auto points = code_points(text.bytes, budget);
    for (std::size_t i = 0; i < points.size() && count != 0; ++i, --count) put(points[i]), at = points[i];
  }
  for (; !from.bytes.empty() && count != 0; --count) {
    const std::size_t found = find(text.bytes, from.bytes, at, budget);
    if (found == std::string::npos) break;
    put(found);
    at = found + from.bytes.size();
  }
  budget.grow(out, text.bytes.size() - at);
  out.bytes.append(text.bytes, at), out.trust.append(text.trust, at);
  return out;
}

List split(const Text& text, const Value* separator, std::int64_t count, bool from_right, Budget& budget) {
  count = whole(count);
  if (!separator || separator->none())
    return from_right ? split_at_spaces_from_right(text, count, budget) : split_at_spaces(text, count, budget);
  const std::string& cut = want_text(*separator, "split").bytes;
  if (cut.empty()) throw Failure{"split with an empty separator"};
  List out;
  std::size_t at = 0;
  const auto piece = [&](std::size_t end) { add_piece(text, at, end - at, out, budget), at = end + cut.size(); };
  if (from_right) {
    for (const std::size_t place : places_from_right(text.bytes, cut, count, budget)) piece(place);
  } else {
    for (; count != 0; --count) {
      const std::size_t found = find(text.bytes, cut, at, budget);
      if (found == std::string::npos) break;
      piece(found);
    }
  }
  add_piece(text, at, text.bytes.size() - at, out, budget);
  return out;
}

Text join(const List& list, const Text& between, const Value* attribute_name, Budget& budget) {
  Text out;
  bool first = true;
  for (const Value& item : list) {
    if (!std::exchange(first, false)) budget.grow(out, between.bytes.size()), out.append(between);
    append_text(attribute_name ? attribute(item, want_text(*attribute_name, "attribute").bytes, budget) : item, out,
                budget);
  }
  return out;
}

namespace {

bool affixed(const Text& text, const Arguments& a, bool start, Budget& budget) {
  if (a.positional.empty()) throw Failure{"startswith and endswith need text"};
  const auto one = [&](const Value& v) {
    const std::string& fix = want_text(v, "startswith").bytes;
    budget.work(1 + std::min(fix.size(), text.bytes.size()) / kBytesPerUnit);
    return start ? text.bytes.starts_with(fix) : text.bytes.ends_with(fix);
  };
  if (const List* any = a.positional[0].list()) return std::ranges::any_of(*any, one);
  return one(a.positional[0]);
}

const std::unordered_map<std::string_view, TextMethod>& text_methods() {
  static const std::unordered_map<std::string_view, TextMethod> methods{
      {"strip",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         return strip(t, a.positional.empty() || a.positional[0].none() ? nullptr : &text_argument(a, 0, "chars"), true,
                      true, b);
       }},
      {"lstrip",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         return strip(t, a.positional.empty() ? nullptr : &text_argument(a, 0, "chars"), true, false, b);
       }},
      {"rstrip",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         return strip(t, a.positional.empty() ? nullptr : &text_argument(a, 0, "chars"), false, true, b);
       }},
      {"split",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         return split(t, argument(a, 0, "sep"), int_argument(a, 1, "maxsplit", -1), false, b);
       }},
      {"rsplit",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         return split(t, argument(a, 0, "sep"), int_argument(a, 1, "maxsplit", -1), true, b);
       }},
      {"upper", [](const Text& t, const Arguments&, Budget& b) -> Value { return change_case(t, Case::kUpper, b); }},
      {"lower", [](const Text& t, const Arguments&, Budget& b) -> Value { return change_case(t, Case::kLower, b); }},
      {"title", [](const Text& t, const Arguments&, Budget& b) -> Value { return change_case(t, Case::kTitle, b); }},
      {"capitalize",
       [](const Text& t, const Arguments&, Budget& b) -> Value { return change_case(t, Case::kCapitalize, b); }},
      {"startswith", [](const Text& t, const Arguments& a, Budget& b) -> Value { return affixed(t, a, true, b); }},
      {"endswith", [](const Text& t, const Arguments& a, Budget& b) -> Value { return affixed(t, a, false, b); }},
      {"replace",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         return replace(t, text_argument(a, 0, "old"), text_argument(a, 1, "new"), int_argument(a, 2, "count", -1), b);
       }},
      {"join",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         return join(items_of(a.positional.empty() ? Value() : a.positional[0], b), t, nullptr, b);
       }},
      {"find",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         const std::size_t at = find(t.bytes, text_argument(a, 0, "sub").bytes, 0, b);
         return at == std::string::npos
                    ? std::int64_t{-1}
                    : static_cast<std::int64_t>(count_points(std::string_view(t.bytes).substr(0, at), b));
       }},
      {"count",
       [](const Text& t, const Arguments& a, Budget& b) -> Value {
         const std::string& what = text_argument(a, 0, "sub").bytes;
         if (what.empty()) return static_cast<std::int64_t>(count_points(t.bytes, b)) + 1;
         std::int64_t count = 0;
         for (std::size_t at = 0; (at = find(t.bytes, what, at, b)) != std::string::npos; at += what.size()) ++count;
         return count;
       }},
  };
  return methods;
}

}  // namespace

TextMethod text_method(std::string_view name) {
  const auto it = text_methods().find(name);
  return it == text_methods().end() ? nullptr : it->second;
}

}  // namespace llorch::jinja
