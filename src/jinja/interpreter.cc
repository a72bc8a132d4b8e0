#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/limits.h"
#include "jinja/limits.h"
#include "jinja/syntax.h"
#include "jinja/template.h"

namespace llorch::jinja {
namespace {

using E = Expression::Kind;
using S = Statement::Kind;

struct Scope;
using ScopePtr = std::shared_ptr<Scope>;
struct Scope {
  std::map<std::string, Value, std::less<>> names;
  ScopePtr parent;

  [[nodiscard]] Value get(std::string_view name, Budget& budget) const {
    for (const Scope* s = this; s; s = s->parent.get(), budget.work(kUnitsPerVisit))
      if (const auto it = s->names.find(name); it != s->names.end()) return it->second;
    return Undefined{std::string(name)};
  }
};

ScopePtr inside(const ScopePtr& parent) { return std::make_shared<Scope>(Scope{{}, parent}); }

enum class Flow { kNormal, kBreak, kContinue };

class Interpreter {
 public:
  explicit Interpreter(Budget& budget) : budget_(budget) {}

  Flow run(const std::vector<Statement>& statements, const ScopePtr& scope, Text& out) {
    const Deeper deeper(budget_);
    for (const Statement& s : statements) {
      line_ = s.line;
      budget_.step();
      if (const Flow flow = execute(s, scope, out); flow != Flow::kNormal) return flow;
    }
    return Flow::kNormal;
  }
  [[nodiscard]] int line() const { return line_; }

 private:
  Flow execute(const Statement& s, const ScopePtr& scope, Text& out) {
    switch (s.kind) {
      case S::kText:
        budget_.grow(out, s.text.size());
        out.append(s.text, true);
        return Flow::kNormal;
      case S::kPrint: append_text(eval(*s.value, scope), out, budget_); return Flow::kNormal;
      case S::kIf:
        for (const auto& [condition, body] : s.branches)
          if (!condition || eval(*condition, scope).truthy()) return run(body, scope, out);
        return Flow::kNormal;
      case S::kFor: loop(s, scope, out); return Flow::kNormal;
      case S::kSet: assign(s, scope); return Flow::kNormal;
      case S::kMacro: scope->names.insert_or_assign(s.name, macro(s, scope)); return Flow::kNormal;
      case S::kFilter: {
        Text inner;
        const Flow flow = run(s.body, scope, inner);
        append_text(eval_filter(*s.value, scope, Value(std::move(inner))), out, budget_);
        return flow;
      }
      case S::kWith: {
        const ScopePtr inner = inside(scope);
        for (std::size_t i = 0; i < s.targets.size(); ++i)
          inner->names.insert_or_assign(s.targets[i], eval(*s.defaults[i], scope));
        return run(s.body, inner, out);
      }
      case S::kGroup: return run(s.body, scope, out);
      case S::kBreak: return Flow::kBreak;
      case S::kContinue: return Flow::kContinue;
    }
    return Flow::kNormal;
  }

  void bind(const std::vector<std::string>& targets, const Value& value, const ScopePtr& scope) {
    if (targets.size() == 1) {
      scope->names.insert_or_assign(targets[0], value);
      return;
    }
    const List parts = items_of(value, budget_);
    if (parts.size() != targets.size()) throw Failure{"the number of values does not match the number of names"};
    for (std::size_t i = 0; i < parts.size(); ++i) scope->names.insert_or_assign(targets[i], parts[i]);
  }

  void assign(const Statement& s, const ScopePtr& scope) {
    Value value;
    if (s.value) {
      value = eval(*s.value, scope);
    } else {
      Text inner;
      const ScopePtr own = inside(scope);
      run(s.body, own, inner);
      value = Value(std::move(inner));
      if (s.condition) value = eval_filter(*s.condition, scope, value);
    }
    if (s.attribute.empty()) return bind(s.targets, value, scope);
    const Value object = scope->get(s.targets[0], budget_);
    if (!object.dict() || !object.dict()->is_namespace) throw Failure{"only a namespace's attributes can be set"};
    if (value.depth >= kDepthMax / 2 || value.holds_namespace) throw Failure{"a namespace cannot hold this value"};
    object.dict()->set(Value(s.attribute, true), std::move(value), budget_);
  }

  void loop(const Statement& s, const ScopePtr& scope, Text& out) {
    List items = items_of(eval(*s.value, scope), budget_);
    budget_.step(static_cast<std::int64_t>(items.size()));
    if (s.condition)
      std::erase_if(items, [&](const Value& item) {
        const ScopePtr inner = inside(scope);
        bind(s.targets, item, inner);
        return !eval(*s.condition, inner).truthy();
      });
    const auto n = static_cast<std::int64_t>(items.size());
    for (std::int64_t i = 0; i < n; ++i) {
      budget_.work(kUnitsPerLoop);
      const ScopePtr inner = inside(scope);
      bind(s.targets, items[static_cast<std::size_t>(i)], inner);
      inner->names.insert_or_assign("loop", loop_value(items, i, n));
      if (run(s.body, inner, out) == Flow::kBreak) break;
    }
    if (n == 0) {
      const ScopePtr inner = inside(scope);
      run(s.otherwise, inner, out);
    }
  }

  static Value loop_value(const List& items, std::int64_t i, std::int64_t n) {
    Dict d;
    const auto put = [&](std::string_view name, Value value) {
      d.items.emplace_back(Value(name, true), std::move(value));
    };
    put("index", i + 1), put("index0", i), put("revindex", n - i), put("revindex0", n - i - 1);
    put("first", i == 0), put("last", i == n - 1), put("length", n), put("depth", 1), put("depth0", 0);
    put("previtem", i > 0 ? items[static_cast<std::size_t>(i - 1)] : Value(Undefined{"previtem"}));
    put("nextitem", i + 1 < n ? items[static_cast<std::size_t>(i + 1)] : Value(Undefined{"nextitem"}));
    put("cycle", Function([i](const Arguments& a) -> Value {
          if (a.positional.empty()) throw Failure{"cycle needs values"};
          return a.positional[static_cast<std::size_t>(i) % a.positional.size()];
        }));
    return d;
  }

  /// A macro sees the scope that defined it as it is when called.
  Value macro(const Statement& s, const ScopePtr& scope) {
    return Function([this, &s, home = std::weak_ptr<Scope>(scope)](const Arguments& a) -> Value {
      const int line = line_;
      const ScopePtr defined_in = home.lock();  // weak: the scope owns the macro
      if (!defined_in) throw Failure{fmt::format("macro {} is called outside the block that defines it", s.name)};
      const ScopePtr inner = inside(defined_in);
      if (a.positional.size() > s.targets.size()) throw Failure{fmt::format("macro {} takes fewer arguments", s.name)};
      for (const auto& [name, value] : a.named)
        if (std::ranges::find(s.targets, name) == s.targets.end())
          throw Failure{fmt::format("macro {} has no argument {}", s.name, name)};
      const std::size_t first_default = s.targets.size() - s.defaults.size();
      for (std::size_t i = 0; i < s.targets.size(); ++i) {
        const auto named = a.named.find(s.targets[i]);
        Value value = Undefined{s.targets[i]};
        if (i < a.positional.size())
          value = a.positional[i];
        else if (named != a.named.end())
          value = named->second;
        else if (i >= first_default)
          value = eval(*s.defaults[i - first_default], inner);
        inner->names.insert_or_assign(s.targets[i], std::move(value));
      }
      Text out;
      run(s.body, inner, out);
      line_ = line;
      return Value(std::move(out));
    });
  }

  void set_entry(Dict& dict, const Expression& e, std::size_t i, const ScopePtr& scope) {
    Value key = eval(*e.children[i], scope);
    dict.set(std::move(key), eval(*e.children[i + 1], scope), budget_);
  }

  static Value negated(const Value& v) {
    if (!v.integer()) return -v.as_double();
    std::int64_t out = 0;
    if (__builtin_sub_overflow(std::int64_t{0}, v.as_int(), &out)) throw Failure{"a number is out of range"};
    return out;
  }

  Value eval(const Expression& e, const ScopePtr& scope) {
    const Deeper deeper(budget_);
    budget_.step();
    line_ = e.line;
    const auto child = [&](std::size_t i) { return eval(*e.children[i], scope); };
    switch (e.kind) {
      case E::kLiteral: return e.literal;
      case E::kName: return scope->get(e.name, budget_);
      case E::kList: {
        List list;
        budget_.make(kTextValueBytes + e.children.size() * sizeof(Value));
        for (const auto& c : e.children) list.push_back(eval(*c, scope));
        return e.name.empty() ? Value(std::move(list)) : make_tuple(std::move(list));
      }
      case E::kDict: {
        Dict dict;
        for (std::size_t i = 0; i + 1 < e.children.size(); i += 2) set_entry(dict, e, i, scope);
        return dict;
      }
      case E::kIf:
        if (child(0).truthy()) return child(1);
        return e.children[2] ? child(2) : Value(Undefined{"the value of an if without else"});
      case E::kAnd: {
        Value left = child(0);
        return left.truthy() ? child(1) : left;
      }
      case E::kOr: {
        Value left = child(0);
        return left.truthy() ? left : child(1);
      }
      case E::kNot: return !child(0).truthy();
      case E::kNegative:
      case E::kPositive: {
        const Value v = child(0);
        if (!v.number()) throw Failure{"a sign before something that is no number"};
        if (e.kind == E::kNegative) return negated(v);
        return v.integer() ? Value(v.as_int()) : v;
      }
      case E::kBinary: {
        const Value left = child(0);
        return binary(e.name, left, child(1));
      }
      case E::kCompare: return comparison(e, scope);
      case E::kAttribute: return attribute(child(0), e.name, budget_);
      case E::kSubscript: {
        const Value object = child(0);
        return subscript(object, child(1), budget_);
      }
      case E::kSlice: return slice(e, scope);
      case E::kCall: return call(e, scope);
      case E::kFilter: return eval_filter(e, scope, {});
      case E::kTest: {
        const Value subject = child(0);
        return call_test(e.name, subject, arguments(e, scope), budget_) != e.negated;
      }
    }
    return {};
  }

  Arguments arguments(const Expression& e, const ScopePtr& scope) {
    Arguments a;
    for (std::size_t i = 1; i < e.children.size(); ++i) a.positional.push_back(eval(*e.children[i], scope));
    for (const auto& [name, value] : e.named) a.named.insert_or_assign(name, eval(*value, scope));
    return a;
  }

  /// `innermost` is the subject where the chain has none of its own.
  Value eval_filter(const Expression& e, const ScopePtr& scope, const Value& innermost) {
    const Deeper deeper(budget_);
    Value subject = innermost;
    if (e.children[0])
      subject = e.children[0]->kind == E::kFilter ? eval_filter(*e.children[0], scope, innermost)
                                                  : eval(*e.children[0], scope);
    return call_filter(e.name, subject, arguments(e, scope), budget_);
  }

  Value call(const Expression& e, const ScopePtr& scope) {
    const Value callee = eval(*e.children[0], scope);
    if (callee.undefined()) throw Failure{fmt::format("'{}' is undefined", std::get<Undefined>(callee.v).name)};
    if (!callee.function()) throw Failure{"this value cannot be called"};
    return (*callee.function())(arguments(e, scope));
  }

  Value comparison(const Expression& e, const ScopePtr& scope) {
    Value left = eval(*e.children[0], scope);
    for (std::size_t i = 0; i < e.operators.size(); ++i) {
      Value right = eval(*e.children[i + 1], scope);
      const std::string& op = e.operators[i];
      bool holds = false;
      if (op == "==")
        holds = equal(left, right, budget_);
      else if (op == "!=")
        holds = !equal(left, right, budget_);
      else if (op == "in" || op == "not in") {
        if (right.none() || right.number()) throw Failure{"'in' needs a text, a list or a dict"};
        holds = call_test("in", left, {{right}, {}}, budget_) == (op == "in");
      } else {
        const int order = compare(left, right, budget_);
        holds = op == "<" ? order < 0 : op == ">" ? order > 0 : op == "<=" ? order <= 0 : order >= 0;
      }
      if (!holds) return false;
      left = std::move(right);
    }
    return true;
  }

  Value joined(const Value& a, const Value& b) {
    Text text = to_text(a, budget_);
    append_text(b, text, budget_);
    Value out = Value(std::move(text));
    out.markup = a.markup || b.markup;
    return out;
  }

  Value binary(const std::string& op, const Value& a, const Value& b) {
    if (op == "~") {
      Value out = joined(a, b);
      out.markup = false;
      return out;
    }
    if (a.undefined() || b.undefined())
      throw Failure{fmt::format("'{}' is undefined", std::get<Undefined>((a.undefined() ? a : b).v).name)};
    if (op == "+" && a.text() && b.text()) {
      if (a.markup == b.markup) return joined(a, b);
      const Value& plain = a.markup ? b : a;
      const Value escaped(escape_html(*plain.text(), budget_));
      return a.markup ? joined(a, escaped) : joined(escaped, b);
    }
    if (op == "+" && a.list() && b.list()) {
      budget_.make((a.list()->size() + b.list()->size()) * sizeof(Value));
      List out = *a.list();
      out.insert(out.end(), b.list()->begin(), b.list()->end());
      return out;
    }
    if (op == "*" && ((a.text() && b.integer()) || (a.integer() && b.text()))) {
      const Text& text = a.text() ? *a.text() : *b.text();
      Text out;
      for (std::int64_t i = text.bytes.empty() ? 0 : a.text() ? b.as_int() : a.as_int(); i > 0; --i) {
        budget_.grow(out, text.bytes.size());
        out.append(text);
      }
      return Value(std::move(out));
    }
    if (op == "%" && a.text()) throw Failure{"'%' on text is not supported"};
    if (!a.number() || !b.number()) throw Failure{fmt::format("'{}' on values that do not fit it", op)};
    return arithmetic(op, a, b);
  }

  static Value arithmetic(const std::string& op, const Value& a, const Value& b) {
    const double x = a.as_double(), y = b.as_double();
    if (((op == "/" || op == "//" || op == "%") && y == 0) || (op == "**" && x == 0 && y < 0))
      throw Failure{"division by zero"};
    if (op == "/") return x / y;
    if (a.integer() && b.integer() && op != "**") {
      const std::int64_t i = a.as_int(), j = b.as_int();
      std::int64_t out = 0;
      const bool wraps = op == "+"   ? __builtin_add_overflow(i, j, &out)
                         : op == "-" ? __builtin_sub_overflow(i, j, &out)
                         : op == "*" ? __builtin_mul_overflow(i, j, &out)
                                     : i == std::numeric_limits<std::int64_t>::min() && j == -1;
      if (wraps && op == "%") return 0;
      if (wraps) throw Failure{"a number is out of range"};
      if (op != "//" && op != "%") return out;
      const std::int64_t remainder = i % j;
      const bool apart = remainder != 0 && (remainder < 0) != (j < 0);  // Python's has the sign of the divisor
      return op == "%" ? remainder + (apart ? j : 0) : i / j - (apart ? 1 : 0);
    }
    if (op == "+") return x + y;
    if (op == "-") return x - y;
    if (op == "*") return x * y;
    if (op == "//") return std::floor(x / y);
    if (op == "%") return x - y * std::floor(x / y);
    const double power = std::pow(x, y);
    if (a.integer() && b.integer() && b.as_int() >= 0) {
      if (std::fabs(power) > 9e15) throw Failure{"a number is out of range"};
      return static_cast<std::int64_t>(power);
    }
    return power;
  }

  Value slice(const Expression& e, const ScopePtr& scope) {
    const Value object = eval(*e.children[0], scope);
    if (!object.text() && !object.list()) throw Failure{"only texts and lists can be sliced"};
    const auto n = static_cast<std::int64_t>(length_of(object, budget_));
    const auto part = [&](std::size_t i, std::int64_t otherwise) {
      if (!e.children[i]) return otherwise;
      const Value v = eval(*e.children[i], scope);
      if (v.none()) return otherwise;
      if (!v.integer()) throw Failure{"a slice needs integers"};
      return v.as_int();
    };
    const std::int64_t step = part(3, 1);
    if (step == 0) throw Failure{"a slice has a step of zero"};
    const auto clip = [&](std::int64_t i) {
      return std::clamp(i < 0 ? i + n : i, step > 0 ? std::int64_t{0} : std::int64_t{-1}, step > 0 ? n : n - 1);
    };
    const bool forward = step > 0;
    const std::int64_t start = e.children[1] ? clip(part(1, forward ? 0 : n - 1)) : forward ? 0 : n - 1;
    const std::int64_t stop = e.children[2] ? clip(part(2, forward ? n : -n - 1)) : forward ? n : -1;
    return taken(object, start, stop, step);
  }

  /// Items of a text or list from `start` to `stop`, which lie within it.
  Value taken(const Value& object, std::int64_t start, std::int64_t stop, std::int64_t step) {
    const List* list = object.list();
    const std::string& bytes = list ? std::string() : object.text()->bytes;
    if (!list && step == 1) {
      if (start >= stop) return Text();
      const std::size_t begin = point_offset(bytes, static_cast<std::size_t>(start), budget_);
      const std::size_t size =
          point_offset(std::string_view(bytes).substr(begin), static_cast<std::size_t>(stop - start), budget_);
      budget_.make(size);
      return object.text()->part(begin, size);
    }
    const auto points = list ? std::vector<std::size_t>() : code_points(bytes, budget_);
    List out;
    Text joined;
    for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
      const auto at = static_cast<std::size_t>(i);
      budget_.make(list ? sizeof(Value) : points[at + 1] - points[at]);
      if (list)
        out.push_back((*list)[at]);
      else
        joined.append(object.text()->part(points[at], points[at + 1] - points[at]));
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    return list ? Value(std::move(out)) : Value(std::move(joined));
  }

  Budget& budget_;
  int line_ = 0;
};

/// Only what the template wrote may leave in a message.
std::string trusted_part(const Text& text) {
  std::string out;
  for (std::size_t i = 0; i < text.bytes.size() && out.size() < 200; ++i)
    if (text.trust[i]) out += text.bytes[i];
  return out;
}

Value range(const Arguments& a, Budget& budget) {
  for (const Value& v : a.positional)
    if (!v.integer()) throw Failure{"range needs integers"};
  if (a.positional.empty() || a.positional.size() > 3) throw Failure{"range takes 1 to 3 integers"};
  const std::int64_t start = a.positional.size() > 1 ? a.positional[0].as_int() : 0,
                     stop = a.positional[a.positional.size() > 1 ? 1 : 0].as_int(),
                     step = a.positional.size() > 2 ? a.positional[2].as_int() : 1;
  if (step == 0) throw Failure{"range with a step of zero"};
  List out;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    budget.step();
    budget.make(sizeof(Value));
    out.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return out;
}

void add_functions(const ScopePtr& scope, Budget& budget, std::time_t now) {
  const auto put = [&](const char* name, Function f) { scope->names.insert_or_assign(name, Value(std::move(f))); };
  put("raise_exception", [&budget](const Arguments& a) -> Value {
    throw Failure{a.positional.empty() ? "refused by the template" : trusted_part(to_text(a.positional[0], budget))};
  });
  put("strftime_now", [now](const Arguments& a) -> Value {
    if (a.positional.empty() || !a.positional[0].text()) throw Failure{"strftime_now needs a format"};
    char buffer[256];
    std::tm parts{};
    localtime_r(&now, &parts);
    const std::string& format = a.positional[0].text()->bytes;
    const bool trusted = a.positional[0].text()->trust.find('\0') == std::string::npos;
    return {std::string_view(buffer, std::strftime(buffer, sizeof buffer, format.c_str(), &parts)), trusted};
  });
  put("range", [&budget](const Arguments& a) { return range(a, budget); });
  const auto make_dict = [&budget](const Arguments& a, bool is_namespace) {
    Dict d;
    d.is_namespace = is_namespace;
    if (!a.positional.empty() && a.positional[0].dict()) {
      budget.make(a.positional[0].dict()->items.size() * 2 * sizeof(Value));
      d.items = a.positional[0].dict()->items;
    }
    for (const auto& [name, value] : a.named) d.set(Value(name, true), value, budget);
    return Value(std::move(d));
  };
  put("namespace", [make_dict](const Arguments& a) { return make_dict(a, true); });
  put("dict", [make_dict](const Arguments& a) { return make_dict(a, false); });
}

}  // namespace

Template::Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Result<Template> Template::parse(std::string_view source) {
  try {
    Template t;
    t.statements_ = std::make_shared<const std::vector<Statement>>(jinja::parse(source));
    return t;
  } catch (const Failure& f) {
    return bad_model("chat template: {}", f.message);
  }
}

Result<Text> Template::render(const boost::json::object& variables,
                              const std::vector<std::pair<std::string, Value>>& trusted, std::time_t now) const {
  WorkLimit limit(limits::kRenderUnitsMax);
  return render(variables, trusted, now, limit);
}

Result<Text> Template::render(const boost::json::object& variables,
                              const std::vector<std::pair<std::string, Value>>& trusted, std::time_t now,
                              WorkLimit& limit) const {
  Budget budget{limit};
  const auto globals = std::make_shared<Scope>();
  Interpreter interpreter(budget);
  try {
    for (const auto& [key, value] : variables)
      globals->names.insert_or_assign(std::string(key.data(), key.size()), from_json(value, budget));
    add_functions(globals, budget, now);
    for (const auto& [name, value] : trusted) globals->names.insert_or_assign(name, value);
    Text out;
    interpreter.run(*statements_, inside(globals), out);
    return out;
  } catch (const Failure& f) {
    return fail(f.code, "chat template, line {}: {}", interpreter.line(), f.message);
  }
}

Result<Value> read_messages(const boost::json::array& messages, WorkLimit& limit) {
  Budget budget{limit};
  try {
    List list;
    for (const auto& m : messages) {
      const Value read = from_json(m, budget);
      if (!read.dict()) throw Failure{"a message is no object"};
      Dict dict = *read.dict();
      for (auto& [key, value] : dict.items)
        if (key.text()->bytes == "role" && value.text()) value = Value(value.text()->bytes, true);
      list.emplace_back(std::move(dict));
    }
    return Value(std::move(list));
  } catch (const Failure& f) {
    return fail(f.code, "messages: {}", f.message);
  }
}

}  // namespace llorch::jinja
