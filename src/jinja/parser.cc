#include <fmt/format.h>

#include <array>
#include <charconv>
#include <set>

#include "jinja/limits.h"
#include "jinja/syntax.h"
#include "text/utf8.h"

namespace llorch::jinja {
namespace {

using Kind = Token::Kind;
using E = Expression::Kind;
using S = Statement::Kind;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  std::vector<Statement> run() {
    std::vector<Statement> out = block({});
    if (peek().kind != Kind::kEnd) stop("a block ends that was not begun");
    return out;
  }

 private:
  [[nodiscard]] const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const Token& next() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_.back(); }
  [[noreturn]] void stop(std::string_view why) const { throw Failure{fmt::format("line {}: {}", peek().line, why)}; }
  [[nodiscard]] bool is_op(std::string_view text, std::size_t ahead = 0) const {
    return peek(ahead).kind == Kind::kOperator && peek(ahead).text == text;
  }
  [[nodiscard]] bool is_name(std::string_view text, std::size_t ahead = 0) const {
    return peek(ahead).kind == Kind::kName && peek(ahead).text == text;
  }
  bool take_op(std::string_view text) { return is_op(text) ? (next(), true) : false; }
  bool take_name(std::string_view text) { return is_name(text) ? (next(), true) : false; }
  void want_op(std::string_view text) {
    if (!take_op(text)) stop(fmt::format("'{}' is missing", text));
  }
  std::string want_name() {
    if (peek().kind != Kind::kName) stop("a name is missing");
    return next().text;
  }
  void close_block() {
    if (peek().kind != Kind::kCloseBlock) stop("something follows where the tag should end");
    next();
  }
  struct Deeper {
    explicit Deeper(Parser& p) : parser(p) {
      if (++p.depth_ > kDepthMax) p.stop("the template is nested too deeply");
    }
    ~Deeper() { --parser.depth_; }
    Parser& parser;
  };

  // Statements.

  /// Statements up to a tag whose name is in `ends`, of which the opening and the name are consumed into ended_by_.
  std::vector<Statement> block(const std::set<std::string_view>& ends) {
    const Deeper deeper(*this);
    std::vector<Statement> out;
    while (peek().kind != Kind::kEnd) {
      if (peek().kind == Kind::kOpenBlock && peek(1).kind == Kind::kName && ends.contains(peek(1).text)) {
        next();
        ended_by_ = next().text;
        return out;
      }
      if (peek().kind == Kind::kOpenBlock && peek(1).text.starts_with("end")) return out;
      out.push_back(statement());
    }
    if (!ends.empty()) stop(fmt::format("{} is missing", *ends.begin()));
    return out;
  }
  std::vector<Statement> body_until(std::string_view end) {
    close_block();
    std::vector<Statement> out = block({end});
    if (ended_by_ != end) stop(fmt::format("{} is missing", end));
    ended_by_.clear();
    close_block();
    return out;
  }

  Statement statement() {
    Statement s;
    s.line = peek().line;
    if (peek().kind == Kind::kText) {
      s.text = next().text;
      return s;
    }
    if (peek().kind == Kind::kOpenPrint) {
      next();
      s.kind = S::kPrint;
      s.value = tuple();
      if (peek().kind != Kind::kClosePrint) stop("something follows where the tag should end");
      next();
      return s;
    }
    if (peek().kind != Kind::kOpenBlock) stop("unexpected syntax");
    next();
    tag(s, want_name());
    return s;
  }

  void tag(Statement& s, const std::string& name) {
    if (name == "if") return if_tag(s);
    if (name == "for") return for_tag(s);
    if (name == "set") return set_tag(s);
    if (name == "macro") return macro_tag(s);
    if (name == "break" || name == "continue") {
      s.kind = name == "break" ? S::kBreak : S::kContinue;
      if (loops_ == 0) stop(name + " outside a loop");
      return close_block();
    }
    if (name == "generation") {  // marks the assistant's part for training; prints its body
      s.kind = S::kGroup;
      s.body = body_until("endgeneration");
      return;
    }
    if (name == "filter") {
      s.kind = S::kFilter;
      s.value = filter_chain();
      s.body = body_until("endfilter");
      return;
    }
    if (name == "with") return with_tag(s);
    stop(fmt::format("the tag '{}' is not supported", name.substr(0, 40)));
  }

  void if_tag(Statement& s) {
    s.kind = S::kIf;
    ExpressionPtr condition = tuple();
    while (true) {
      close_block();
      std::vector<Statement> body = block({"elif", "else", "endif"});
      const std::string end = std::exchange(ended_by_, "");
      const bool was_else = !condition;
      s.branches.emplace_back(std::move(condition), std::move(body));
      if (end == "endif") return close_block();
      if (was_else || end.empty()) stop("endif is missing");
      condition = end == "elif" ? tuple() : nullptr;
    }
  }

  std::vector<std::string> target_list() {
    const bool parenthesis = take_op("(");
    std::vector<std::string> targets{want_name()};
    while (take_op(",")) {
      if (peek().kind != Kind::kName) break;
      targets.push_back(want_name());
    }
    if (parenthesis) want_op(")");
    return targets;
  }

  void for_tag(Statement& s) {
    s.kind = S::kFor;
    s.targets = target_list();
    if (!take_name("in")) stop("'in' is missing");
    s.value = tuple(false);
    if (take_name("if")) s.condition = expression();
    if (is_name("recursive")) stop("recursive loops are not supported");
    close_block();
    ++loops_;
    s.body = block({"else", "endfor"});
    --loops_;
    if (std::exchange(ended_by_, "") == "else") {
      s.otherwise = body_until("endfor");
      return;
    }
    close_block();
  }

  void set_tag(Statement& s) {
    s.kind = S::kSet;
    s.targets = target_list();
    if (s.targets.size() == 1 && take_op(".")) s.attribute = want_name();
    if (take_op("=")) {
      s.value = tuple();
      return close_block();
    }
    if (is_op("|")) s.condition = filter_chain();  // applied to the body's text
    s.body = body_until("endset");
  }

  void macro_tag(Statement& s) {
    s.kind = S::kMacro;
    s.name = want_name();
    want_op("(");
    while (!take_op(")")) {
      if (!s.targets.empty()) want_op(",");
      s.targets.push_back(want_name());
      if (take_op("="))
        s.defaults.push_back(expression());
      else if (!s.defaults.empty())
        stop("a parameter without a default follows one with a default");
    }
    const int loops = std::exchange(loops_, 0);
    s.body = body_until("endmacro");
    loops_ = loops;
  }

  void with_tag(Statement& s) {
    s.kind = S::kWith;
    while (peek().kind == Kind::kName) {
      s.targets.push_back(want_name());
      want_op("=");
      s.defaults.push_back(expression());
      if (!take_op(",")) break;
    }
    s.body = body_until("endwith");
  }

  /// `| name(args) | name ...`, or the same without the first bar; the innermost subject is null.
  ExpressionPtr filter_chain() {
    ExpressionPtr chain;
    take_op("|");
    do chain = filter(std::move(chain));
    while (take_op("|"));
    return chain;
  }

  // Expressions.

  ExpressionPtr make(E kind, ExpressionPtr a = nullptr, ExpressionPtr b = nullptr) {
    auto e = std::make_unique<Expression>();
    e->kind = kind, e->line = peek().line;
    if (a) adopt(*e, std::move(a));
    if (b) adopt(*e, std::move(b));
    return e;
  }
  /// A child more. Chains such as 1+1+1 grow the tree without recursion here, but not where it is walked.
  void adopt(Expression& e, ExpressionPtr child) {
    if (child) e.depth = std::max(e.depth, child->depth + 1);
    if (e.depth > kTreeDepthMax) stop("an expression is nested too deeply");
    e.children.push_back(std::move(child));
  }

  /// One expression, or several with commas between them.
  ExpressionPtr tuple(bool with_condition = true) {
    ExpressionPtr first = with_condition ? expression() : disjunction();
    if (!is_op(",")) return first;
    ExpressionPtr list = make(E::kList, std::move(first));
    list->name = "tuple";
    while (take_op(",")) {
      if (peek().kind == Kind::kCloseBlock || peek().kind == Kind::kClosePrint || is_op(")")) break;
      adopt(*list, with_condition ? expression() : disjunction());
    }
    return list;
  }

  ExpressionPtr expression() {
    const Deeper deeper(*this);
    ExpressionPtr value = disjunction();
    while (take_name("if")) {
      ExpressionPtr condition = disjunction();
      ExpressionPtr e = make(E::kIf, std::move(condition), std::move(value));
      adopt(*e, take_name("else") ? expression() : nullptr);
      value = std::move(e);
    }
    return value;
  }
  ExpressionPtr disjunction() {
    ExpressionPtr left = conjunction();
    while (take_name("or")) left = make(E::kOr, std::move(left), conjunction());
    return left;
  }
  ExpressionPtr conjunction() {
    ExpressionPtr left = negation();
    while (take_name("and")) left = make(E::kAnd, std::move(left), negation());
    return left;
  }
  ExpressionPtr negation() {
    const Deeper deeper(*this);
    if (is_name("not") && !is_name("in", 1)) {
      next();
      return make(E::kNot, negation());
    }
    return comparison();
  }
  ExpressionPtr comparison() {
    ExpressionPtr left = sum();
    ExpressionPtr chain;
    while (true) {
      std::string op;
      for (const std::string_view candidate : {"==", "!=", "<=", ">=", "<", ">"})
        if (is_op(candidate)) op = candidate;
      if (is_name("in")) op = "in";
      if (is_name("not") && is_name("in", 1)) op = "not in", next();
      if (op.empty()) break;
      next();
      if (!chain) chain = make(E::kCompare, std::move(left));
      chain->operators.push_back(op);
      adopt(*chain, sum());
    }
    return chain ? std::move(chain) : std::move(left);
  }
  ExpressionPtr binary(ExpressionPtr left, ExpressionPtr (Parser::*part)()) {
    const std::string op = next().text;
    ExpressionPtr right = (this->*part)();
    ExpressionPtr e = make(E::kBinary, std::move(left), std::move(right));
    e->name = op;
    return e;
  }
  ExpressionPtr sum() {
    ExpressionPtr left = concatenation();
    while (is_op("+") || is_op("-")) left = binary(std::move(left), &Parser::concatenation);
    return left;
  }
  ExpressionPtr concatenation() {
    ExpressionPtr left = product();
    while (is_op("~")) left = binary(std::move(left), &Parser::product);
    return left;
  }
  ExpressionPtr product() {
    ExpressionPtr left = power();
    while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) left = binary(std::move(left), &Parser::power);
    return left;
  }
  ExpressionPtr power() {
    ExpressionPtr left = filtered();
    while (is_op("**")) left = binary(std::move(left), &Parser::filtered);
    return left;
  }
  ExpressionPtr filtered() {
    ExpressionPtr e = unary();
    while (true) {
      if (is_op("|")) {
        next();
        e = filter(std::move(e));
      } else if (is_name("is")) {
        e = test(std::move(e));
      } else if (is_op("(")) {
        e = call(std::move(e));
      } else {
        return e;
      }
    }
  }
  ExpressionPtr unary() {
    const Deeper deeper(*this);
    if (take_op("-")) return make(E::kNegative, unary());
    if (take_op("+")) return make(E::kPositive, unary());
    return postfix(primary());
  }

  ExpressionPtr primary() {
    ExpressionPtr e = make(E::kLiteral);
    const Token token = peek();
    switch (token.kind) {
      case Kind::kName:
        next();
        if (token.text == "true" || token.text == "True")
          e->literal = true;
        else if (token.text == "false" || token.text == "False")
          e->literal = false;
        else if (token.text == "none" || token.text == "None")
          e->literal = None{};
        else
          e->kind = E::kName, e->name = token.text;
        return e;
      case Kind::kString: {
        std::string text;
        while (peek().kind == Kind::kString) text += next().text;
        e->literal = Value(text, true);
        return e;
      }
      case Kind::kInteger: {
        std::int64_t i = 0;
        const auto end = token.text.data() + token.text.size();
        if (std::from_chars(token.text.data(), end, i).ec != std::errc{}) stop("a number is out of range");
        next();
        e->literal = i;
        return e;
      }
      case Kind::kFloat: {
        double d = 0;
        if (std::from_chars(token.text.data(), token.text.data() + token.text.size(), d).ec != std::errc{})
          stop("a number is out of range");
        next();
        e->literal = d;
        return e;
      }
      default: break;
    }
    if (take_op("(")) return parenthesis();
    if (take_op("[")) {
      e->kind = E::kList;
      while (!take_op("]")) {
        if (!e->children.empty()) {
          want_op(",");
          if (take_op("]")) break;
        }
        adopt(*e, expression());
      }
      return e;
    }
    if (take_op("{")) {
      e->kind = E::kDict;
      while (!take_op("}")) {
        if (!e->children.empty()) {
          want_op(",");
          if (take_op("}")) break;
        }
        adopt(*e, expression());
        want_op(":");
        adopt(*e, expression());
      }
      return e;
    }
    stop("an expression is missing");
  }

  ExpressionPtr parenthesis() {
    if (take_op(")")) {
      ExpressionPtr empty = make(E::kList);
      empty->name = "tuple";
      return empty;
    }
    ExpressionPtr e = tuple();
    want_op(")");
    return e;
  }

  ExpressionPtr postfix(ExpressionPtr e) {
    while (true) {
      if (take_op(".")) {
        ExpressionPtr a;
        if (peek().kind == Kind::kInteger) {
          a = make(E::kSubscript, std::move(e), primary());
        } else {
          a = make(E::kAttribute, std::move(e));
          a->name = want_name();
        }
        e = std::move(a);
      } else if (take_op("[")) {
        e = bracket(std::move(e));
      } else if (is_op("(")) {
        e = call(std::move(e));
      } else {
        return e;
      }
    }
  }

  ExpressionPtr bracket(ExpressionPtr object) {
    std::array<ExpressionPtr, 3> parts;
    int colons = 0;
    while (!take_op("]")) {
      if (take_op(":")) {
        if (++colons > 2) stop("a slice has too many parts");
      } else if (!parts[static_cast<std::size_t>(colons)]) {
        parts[static_cast<std::size_t>(colons)] = tuple();
      } else {
        stop("']' is missing");
      }
    }
    if (colons == 0) {
      if (!parts[0]) stop("a subscript is empty");
      return make(E::kSubscript, std::move(object), std::move(parts[0]));
    }
    ExpressionPtr e = make(E::kSlice, std::move(object));
    for (ExpressionPtr& p : parts) adopt(*e, std::move(p));
    return e;
  }

  void arguments(Expression& e) {
    want_op("(");
    bool first = true;
    while (!take_op(")")) {
      if (!std::exchange(first, false)) {
        want_op(",");
        if (take_op(")")) return;
      }
      if (peek().kind == Kind::kName && is_op("=", 1)) {
        const std::string name = next().text;
        next();
        ExpressionPtr value = expression();
        e.depth = std::max(e.depth, value->depth + 1);
        if (e.depth > kTreeDepthMax) stop("an expression is nested too deeply");
        e.named.emplace_back(name, std::move(value));
      } else {
        if (is_op("*") || is_op("**")) stop("unpacked arguments are not supported");
        adopt(e, expression());
      }
    }
  }
  ExpressionPtr call(ExpressionPtr callee) {
    ExpressionPtr e = make(E::kCall, std::move(callee));
    arguments(*e);
    return e;
  }
  /// The bar has been read; `subject` may be null (of a filter block).
  ExpressionPtr filter(ExpressionPtr subject) {
    ExpressionPtr e = make(E::kFilter);
    adopt(*e, std::move(subject));
    e->name = want_name();
    if (is_op("(")) arguments(*e);
    return e;
  }
  ExpressionPtr test(ExpressionPtr subject) {
    next();  // is
    ExpressionPtr e = make(E::kTest, std::move(subject));
    e->negated = take_name("not");
    if (take_op("=="))
      e->name = "eq";
    else
      e->name = want_name();
    if (is_op("(")) {
      arguments(*e);
    } else {
      const Token& t = peek();
      const bool word = t.kind == Kind::kName && t.text != "else" && t.text != "or" && t.text != "and" &&
                        t.text != "is" && t.text != "if" && t.text != "in" && t.text != "not";
      if (word || t.kind == Kind::kString || t.kind == Kind::kInteger || t.kind == Kind::kFloat || is_op("[") ||
          is_op("{"))
        adopt(*e, postfix(primary()));
    }
    return e;
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0, loops_ = 0;
  std::string ended_by_;
};

}  // namespace

std::vector<Statement> parse(std::string_view source) {
  if (source.size() > kSourceMax) throw Failure{"the template is too long"};
  if (!utf8_valid(source)) throw Failure{"the template is not valid UTF-8"};
  return Parser(source).run();
}

}  // namespace llorch::jinja
