// Values of the template language: what JSON has, plus undefined, callables and text that knows where it came from.
//
// Every byte of a Text carries whether the template wrote it (trusted) or a request did. Operations keep that apart, so
// that after rendering only spellings written by the template become control tokens (E-32). Values are shared and
// immutable, except namespaces. Failures inside the interpreter are exceptions of type Failure, caught in template.cc.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/work_limit.h"
#include "jinja/limits.h"

namespace llorch::jinja {

/// Bytes and, for each, '\1' (the template's) or '\0' (the request's).
struct Text {
  std::string bytes, trust;

  Text() = default;
  Text(std::string_view text, bool trusted) : bytes(text), trust(text.size(), trusted ? '\1' : '\0') {}
  void append(const Text& other) { bytes += other.bytes, trust += other.trust; }
  void append(std::string_view text, bool trusted = true) {
    bytes += text;
    trust.append(text.size(), trusted ? '\1' : '\0');
  }
  [[nodiscard]] Text part(std::size_t at, std::size_t size = std::string::npos) const {
    Text t;
    t.bytes = bytes.substr(at, size), t.trust = trust.substr(at, size);
    return t;
  }
};

struct Budget;
struct Value;
using List = std::vector<Value>;
using Items = std::vector<std::pair<Value, Value>>;  // in order of insertion
struct Dict {
  Items items;
  bool is_namespace = false;  // the only kind that may be changed

  [[nodiscard]] const Value* find(std::string_view key, Budget& budget) const;
  [[nodiscard]] const Value* find(const Value& key, Budget& budget) const;
  void set(Value key, Value value, Budget& budget);
};
struct Arguments {
  List positional;
  std::map<std::string, Value, std::less<>> named;
};
using Function = std::function<Value(const Arguments&)>;

struct Undefined {
  std::string name;
};
struct None {};

struct Value {
  std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const Text>, std::shared_ptr<const List>,
               std::shared_ptr<Dict>, std::shared_ptr<const Function>>
      v;
  std::uint16_t depth = 0;       // of nesting, bounded so that no walk over a value can run out of stack
  bool tuple = false;            // a list that prints as (1, 2)
  bool markup = false;           // a text that `safe` gave: what is added to it is escaped for HTML
  bool holds_namespace = false;  // what holds one cannot be put into one, so that no circle can form

  Value() : v(Undefined{}) {}
  Value(Undefined u) : v(std::move(u)) {}
  Value(None n) : v(n) {}
  Value(bool b) : v(b) {}
  Value(std::int64_t i) : v(i) {}
  Value(int i) : v(static_cast<std::int64_t>(i)) {}
  Value(double d) : v(d) {}
  Value(Text t) : v(std::make_shared<const Text>(std::move(t))) {}
  Value(std::string_view t, bool trusted) : Value(Text(t, trusted)) {}
  Value(List l);
  Value(Dict d);
  Value(Function f) : v(std::make_shared<const Function>(std::move(f))) {}

  template<class T>
  [[nodiscard]] bool is() const {
    return std::holds_alternative<T>(v);
  }
  [[nodiscard]] const Text* text() const {
    const auto* p = std::get_if<std::shared_ptr<const Text>>(&v);
    return p ? p->get() : nullptr;
  }
  [[nodiscard]] const List* list() const {
    const auto* p = std::get_if<std::shared_ptr<const List>>(&v);
    return p ? p->get() : nullptr;
  }
  [[nodiscard]] Dict* dict() const {
    const auto* p = std::get_if<std::shared_ptr<Dict>>(&v);
    return p ? p->get() : nullptr;
  }
  [[nodiscard]] const Function* function() const {
    const auto* p = std::get_if<std::shared_ptr<const Function>>(&v);
    return p ? p->get() : nullptr;
  }
  [[nodiscard]] bool undefined() const { return is<Undefined>(); }
  [[nodiscard]] bool none() const { return is<None>(); }
  [[nodiscard]] bool number() const { return is<bool>() || is<std::int64_t>() || is<double>(); }
  [[nodiscard]] bool integer() const { return is<bool>() || is<std::int64_t>(); }
  [[nodiscard]] std::int64_t as_int() const;  // of integer()
  [[nodiscard]] double as_double() const;     // of number()
  [[nodiscard]] bool truthy() const;
};

/// Why rendering stopped. The message holds only bytes that the template wrote.
struct Failure {
  std::string message;
  ErrorCode code = ErrorCode::kInvalidRequest;
};

/// What one rendering may use. Each operation charges what it visits and makes, before it does so or at most some
/// milliseconds later, so that the limit's deadline and cancel flag end whatever runs. Throws Failure.
struct Budget {
  WorkLimit& limit;
  std::int64_t steps = 0, bytes = 0;
  int depth = 0;
  void step(std::int64_t count = 1);
  /// `size` bytes of text or values.
  void make(std::size_t size);
  /// `more` bytes of text behind those of `out`.
  void grow(const Text& out, std::size_t more) { make(out.bytes.size() + more > kTextMax ? kTextMax + 1 : more); }
  void work(std::uint64_t units) {
    if (Status s = limit.charge(units); !s) [[unlikely]]
      stop(std::move(s).error());
  }
  [[noreturn]] static void stop(Error error);
};

/// One level of nested evaluation: bounds the stack.
struct Deeper {
  explicit Deeper(Budget& b);
  ~Deeper() { --budget.depth; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;
  Budget& budget;
};

[[nodiscard]] Value make_tuple(List list);
/// All strings of a request's JSON are untrusted.
[[nodiscard]] Value from_json(const boost::json::value& json, Budget& budget);
/// Of a value that is small already; read_messages() is for a whole request.
[[nodiscard]] Value from_json(const boost::json::value& json);
[[nodiscard]] bool equal(const Value& a, const Value& b, Budget& budget);
/// <0, 0, >0. Fails for values without an order.
[[nodiscard]] int compare(const Value& a, const Value& b, Budget& budget);
/// As str() prints it.
void append_text(const Value& value, Text& out, Budget& budget);
[[nodiscard]] Text to_text(const Value& value, Budget& budget);
/// As markupsafe.escape().
[[nodiscard]] Text escape_html(const Text& text, Budget& budget);
/// As json.dumps(value, ensure_ascii=False, indent=indent): indent < 0 is one line.
[[nodiscard]] Text to_json(const Value& value, int indent, Budget& budget);
/// The items that a loop over the value sees: of a list, the keys of a dict, the characters of a text.
[[nodiscard]] List items_of(const Value& value, Budget& budget);
/// How many items_of() would give.
[[nodiscard]] std::size_t length_of(const Value& value, Budget& budget);
[[nodiscard]] std::string number_text(double number);

/// Byte offsets of the code points of valid UTF-8, with the end.
[[nodiscard]] std::vector<std::size_t> code_points(std::string_view text, Budget& budget);
[[nodiscard]] std::size_t count_points(std::string_view text, Budget& budget);
/// Where code point `index` begins; the text's size when there are fewer.
[[nodiscard]] std::size_t point_offset(std::string_view text, std::size_t index, Budget& budget);
/// Like std::string_view::find, in linear time.
[[nodiscard]] std::size_t find(std::string_view text, std::string_view what, std::size_t at, Budget& budget);
[[nodiscard]] Text strip(const Text& text, const Text* characters, bool left, bool right, Budget& budget);
enum class Case { kUpper, kLower, kTitle, kCapitalize };
[[nodiscard]] Text change_case(const Text& text, Case how, Budget& budget);
/// count < 0: all.
[[nodiscard]] Text replace(const Text& text, const Text& from, const Text& to, std::int64_t count, Budget& budget);
/// At `separator`, or at runs of white space when it is null or none; at most `count` cuts, all when count < 0.
[[nodiscard]] List split(const Text& text, const Value* separator, std::int64_t count, bool from_right, Budget& budget);
[[nodiscard]] Text join(const List& list, const Text& between, const Value* attribute_name, Budget& budget);

/// Argument `index`, or `name`, or nothing.
[[nodiscard]] const Value* argument(const Arguments& a, std::size_t index, std::string_view name);
[[nodiscard]] const Text& text_argument(const Arguments& a, std::size_t index, std::string_view name);
[[nodiscard]] std::int64_t int_argument(const Arguments& a, std::size_t index, std::string_view name,
                                        std::int64_t otherwise);
[[nodiscard]] const Text& want_text(const Value& v, std::string_view what);

/// Filters, tests, functions and methods. `name` unknown: Failure.
[[nodiscard]] Value call_filter(std::string_view name, const Value& subject, const Arguments& arguments,
                                Budget& budget);
[[nodiscard]] bool call_test(std::string_view name, const Value& subject, const Arguments& arguments, Budget& budget);
/// object.name: a method, or an entry of a dict.
[[nodiscard]] Value attribute(const Value& object, std::string_view name, Budget& budget);
/// object[key]
[[nodiscard]] Value subscript(const Value& object, const Value& key, Budget& budget);
using TextMethod = Value (*)(const Text&, const Arguments&, Budget&);
/// A method of texts, or null.
[[nodiscard]] TextMethod text_method(std::string_view name);

}  // namespace llorch::jinja
