// Values as text: Python's str() and json.dumps().
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

#include "jinja/limits.h"
#include "jinja/value.h"

namespace llorch::jinja {

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

void put(std::string_view text, Text& out, Budget& budget) {
  budget.grow(out, text.size());
  out.append(text, true);
}

/// Copies a text; escape(byte) gives what stands for a byte, empty where it stands for itself.
template<class Escape>
void copy_escaped(const Text& text, Text& out, Budget& budget, const Escape& escape) {
  std::size_t done = 0;
  const auto flush = [&](std::size_t end) {
    if (end == done) return;
    budget.grow(out, end - done), budget.work((end - done) / 4);
    out.bytes.append(text.bytes, done, end - done);
    out.trust.append(text.trust, done, end - done);
  };
  for (std::size_t i = 0; i < text.bytes.size(); ++i) {
    if (i - done >= kBytesPerLook) flush(i), done = i;
    const std::string_view other = escape(text.bytes[i]);
    if (other.empty()) continue;
    flush(i), done = i + 1;
    budget.grow(out, other.size());
    out.append(other, text.trust[i] != 0);
  }
  flush(text.bytes.size());
}

/// "\\x01" and the like.
class HexEscape {
 public:
  std::string_view operator()(std::string_view prefix, int digits, char c) {
    const auto end =
        fmt::format_to_n(buffer_, sizeof buffer_, "{}{:0{}x}", prefix, static_cast<unsigned char>(c), digits);
    return {buffer_, end.size};
  }

 private:
  char buffer_[8];
};

/// Python's repr of a string, as it appears inside a printed list.
void quoted(const Text& text, Text& out, Budget& budget) {
  const bool has_single = text.bytes.find('\'') != std::string::npos,
             has_double = text.bytes.find('"') != std::string::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  HexEscape hex;
  put(std::string_view(&quote, 1), out, budget);
  copy_escaped(text, out, budget, [&](char c) -> std::string_view {
    if (c == '\\') return "\\\\";
    if (c == quote) return quote == '"' ? "\\\"" : "\\'";
    if (c == '\n') return "\\n";
    if (c == '\t') return "\\t";
    if (c == '\r') return "\\r";
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? hex("\\x", 2, c) : std::string_view();
  });
  put(std::string_view(&quote, 1), out, budget);
}

void inside(const Value& value, Text& out, Budget& budget) {
  value.text() ? quoted(*value.text(), out, budget) : append_text(value, out, budget);
}

}  // namespace

void append_text(const Value& value, Text& out, Budget& budget) {
  budget.work(kUnitsPerPrint);
  if (value.undefined()) return;
  if (value.none()) return put("None", out, budget);
  if (const bool* b = std::get_if<bool>(&value.v)) return put(*b ? "True" : "False", out, budget);
  if (value.integer()) return put(std::to_string(value.as_int()), out, budget);
  if (value.number()) return put(number_text(value.as_double()), out, budget);
  if (const Text* t = value.text()) {
    budget.grow(out, t->bytes.size());
    return out.append(*t);
  }
  bool first = true;
  if (const List* list = value.list()) {
    put(value.tuple ? "(" : "[", out, budget);
    for (const Value& item : *list) {
      if (!std::exchange(first, false)) put(", ", out, budget);
      inside(item, out, budget);
    }
    put(!value.tuple ? "]" : list->size() == 1 ? ",)" : ")", out, budget);
  } else if (const Dict* dict = value.dict()) {
    put("{", out, budget);
    for (const auto& [key, item] : dict->items) {
      if (!std::exchange(first, false)) put(", ", out, budget);
      inside(key, out, budget);
      put(": ", out, budget);
      inside(item, out, budget);
    }
    put("}", out, budget);
  } else {
    throw Failure{"a function cannot be printed"};
  }
}

Text to_text(const Value& value, Budget& budget) {
  Text out;
  append_text(value, out, budget);
  return out;
}

Text escape_html(const Text& text, Budget& budget) {
  Text out;
  copy_escaped(text, out, budget, [](char c) -> std::string_view {
    switch (c) {
      case '&': return "&amp;";
      case '<': return "&lt;";
      case '>': return "&gt;";
      case '\'': return "&#39;";
      case '"': return "&#34;";
      default: return {};
    }
  });
  return out;
}

namespace {

void json_string(const Text& text, Text& out, Budget& budget) {
  HexEscape hex;
  put("\"", out, budget);
  copy_escaped(text, out, budget, [&](char c) -> std::string_view {
    switch (c) {
      case '"': return "\\\"";
      case '\\': return "\\\\";
      case '\n': return "\\n";
      case '\r': return "\\r";
      case '\t': return "\\t";
      case '\b': return "\\b";
      case '\f': return "\\f";
      default: return static_cast<unsigned char>(c) < 0x20 ? hex("\\u", 4, c) : std::string_view();
    }
  });
  put("\"", out, budget);
}

struct JsonWriter {
  int indent;
  Budget& budget;
  Text out = {};

  void line(int depth) {
    if (indent < 0) return;
    put("\n", out, budget);
    put(std::string(static_cast<std::size_t>(indent * depth), ' '), out, budget);
  }
  void number(const Value& value) {
    const double d = value.as_double();
    if (value.integer() || std::isfinite(d)) return append_text(value, out, budget);
    put(std::isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity", out, budget);  // as Python writes them
  }
  void write(const Value& value, int depth) {
    budget.step();
    if (depth > kDepthMax) throw Failure{"a value is nested too deeply"};
    if (const Text* t = value.text()) return json_string(*t, out, budget);
    if (value.none()) return put("null", out, budget);
    if (const bool* b = std::get_if<bool>(&value.v)) return put(*b ? "true" : "false", out, budget);
    if (value.number()) return number(value);
    bool first = true;
    const auto next = [&] {
      if (!std::exchange(first, false)) put(indent < 0 ? ", " : ",", out, budget);
      line(depth + 1);
    };
    if (const List* list = value.list()) {
      if (list->empty()) return put("[]", out, budget);
      put("[", out, budget);
      for (const Value& item : *list) next(), write(item, depth + 1);
      line(depth);
      return put("]", out, budget);
    }
    const Dict* dict = value.dict();
    if (!dict) throw Failure{"tojson of something that JSON has not"};
    if (dict->items.empty()) return put("{}", out, budget);
    put("{", out, budget);
    for (const auto& [key, item] : dict->items) {
      next();
      json_string(to_text(key, budget), out, budget);
      put(": ", out, budget);
      write(item, depth + 1);
    }
    line(depth);
    put("}", out, budget);
  }
};

}  // namespace

Text to_json(const Value& value, int indent, Budget& budget) {
  JsonWriter writer{indent, budget};
  writer.write(value, 0);
  return std::move(writer.out);
}

}  // namespace llorch::jinja
