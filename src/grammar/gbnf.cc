// GBNF: rules `name ::= alternatives` of literals, character classes, groups, other rules, and repetitions.
#include <map>

#include "grammar/grammar.h"
#include "grammar/limits.h"
#include "grammar/pattern.h"
#include "grammar/scanner.h"
#include "text/utf8.h"

namespace llorch {

using namespace grammar_limits;

namespace {

class GbnfParser : Scanner {
 public:
  explicit GbnfParser(std::string_view text) : Scanner(text, "gbnf") {}

  Compiled<std::shared_ptr<const Network>> run() {
    if (text_.size() > kSourceBytesMax) return bad("the grammar is too long");
    if (!utf8_valid(text_)) return bad("the grammar is not valid UTF-8");
    skip(true);
    while (more()) LLORCH_OK(rule());
    for (const auto& [name, known] : rules_)
      if (!known.defined) return refuse(name, "gbnf", "the rule is used, but not defined");
    const auto root = rules_.find("root");
    if (root == rules_.end()) return refuse("root", "gbnf", "there is no rule of this name");
    LLORCH_OK(net_->finish(root->second.rule));
    return std::move(net_);
  }

 private:
  struct Known {
    NetRule rule;
    bool defined = false;
  };
  using Index = Pattern::Index;

  void skip(bool lines) {
    while (more()) {
      const char c = peek();
      if (c == '#') {
        while (more() && peek() != '\n' && peek() != '\r') ++at_;
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        ++at_;
      } else {
        return;
      }
    }
  }
  /// Skips to a | at the front of a later line, if one comes next.
  void skip_to_bar() {
    const std::size_t before = at_;
    skip(true);
    if (peek() != '|') at_ = before;
  }
  static bool in_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  }
  std::string name() {
    const std::size_t begin = at_;
    while (in_name(peek())) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  Known& known(const std::string& name) {
    const auto [found, fresh] = rules_.try_emplace(name);
    if (fresh) found->second.rule = net_->add_rule(name);
    return found->second;
  }

  Compiled<void> rule() {
    const std::string name_of_rule = name();
    if (name_of_rule.empty()) return bad("a rule's name is expected");
    skip(false);
    if (!take("::=")) return bad("::= is expected");
    skip(true);
    tree_ = Pattern();
    LLORCH_TRY(const Index root, alternatives(0));
    if (more() && peek() != '\n' && peek() != '\r') return bad("the end of the rule is expected");
    skip(true);
    Known& rule = known(name_of_rule);
    if (net_->full()) return bad("there are more rules than {}", kRulesMax);
    if (std::exchange(rule.defined, true)) return refuse(name_of_rule, "gbnf", "the rule is defined twice");
    const NetState end = net_->add_state();
    net_->set_end(end);
    tree_.set_root(root);
    return tree_.emit(*net_, net_->rule(rule.rule).start, end);
  }

  Compiled<Index> alternatives(int depth) {
    if (depth > kNestingMax) return bad("groups are nested more than {} deep", kNestingMax);
    std::vector<Index> branches;
    for (;;) {
      LLORCH_TRY(const Index branch, sequence(depth));
      branches.push_back(branch);
      if (depth == 0) skip_to_bar();
      if (!take("|")) break;
      skip(true);
    }
    return tree_.add_list(Pattern::Kind::kChoice, std::move(branches));
  }

  Compiled<Index> sequence(int depth) {
    std::vector<Index> parts;
    for (;;) {
      skip(depth > 0);
      const char c = peek();
      if (!more() || c == '|' || c == ')' || c == '\n' || c == '\r') break;
      LLORCH_TRY(const Index part, item(depth));
      LLORCH_TRY(const Index counted, quantified(part));
      parts.push_back(counted);
      if (tree_.size() > kNetStatesMax) return bad("the rule is too long");
    }
    return tree_.add_list(Pattern::Kind::kSequence, std::move(parts));
  }

  Compiled<Index> item(int depth) {
    if (take("\"")) return literal();
    if (take("[")) return character_class();
    if (take(".")) return tree_.add_set({{0, kCodePointMax}});
    if (take("(")) {
      LLORCH_TRY(const Index inner, alternatives(depth + 1));
      skip(true);
      if (!take(")")) return bad("a group does not end");
      return inner;
    }
    const std::string other = name();
    if (other.empty()) return bad("'{}' is not expected", peek());
    Pattern::Node node;
    node.kind = Pattern::Kind::kRule;
    node.rule = known(other).rule;
    if (net_->full()) return bad("there are more rules than {}", kRulesMax);
    return tree_.add(std::move(node));
  }

  Compiled<Index> quantified(Index part) {
    for (;;) {
      skip(false);
      std::uint32_t least = 0, most = kNone;
      if (take("*")) {
      } else if (take("+")) {
        least = 1;
      } else if (take("?")) {
        most = 1;
      } else if (take("{")) {
        LLORCH_TRY(least, number());
        most = least;
        if (take(",")) {
          most = kNone;
          if (peek() != '}') {
            LLORCH_TRY(most, number());
          }
        }
        if (!take("}")) return bad("}} is expected");
        if (least > most) return bad("the repetition {{{},{}}} is the wrong way round", least, most);
      } else {
        return part;
      }
      part = tree_.add_repeat(part, least, most);
      if (tree_.node(part).repeats > kNestingMax) return bad("repetitions are nested more than {} deep", kNestingMax);
      if (tree_.size() > kPatternNodesMax) return bad("the rule is too long");
    }
  }

  Compiled<std::uint32_t> number() {
    if (peek() < '0' || peek() > '9') return bad("a number is expected");
    std::uint64_t n = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      n = n * 10 + static_cast<unsigned>(peek() - '0');
      if (n > kRepeatMax) return bad("more than {} repetitions", kRepeatMax);
    }
    return static_cast<std::uint32_t>(n);
  }

  Compiled<char32_t> character() {
    if (!more()) return bad("a character is expected");
    if (!take("\\")) {
      const int length = utf8_sequence(text_.substr(at_));
      const char32_t c = utf8_code_point(text_.substr(at_), length);
      at_ += static_cast<std::size_t>(length);
      return c;
    }
    constexpr std::string_view kNames = "nrt\\\"[]-^/'", kValues = "\n\r\t\\\"[]-^/'";
    for (const auto& [letter, digits] : {std::pair{'x', 2}, {'u', 4}, {'U', 8}})
      if (peek() == letter) {
        ++at_;
        return hex(digits);
      }
    const std::size_t i = kNames.find(peek());
    if (!more() || i == kNames.npos) return bad("\\{} is not an escape", peek());
    ++at_;
    return static_cast<char32_t>(kValues[i]);
  }

  Compiled<char32_t> hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const std::size_t digit = std::string_view("0123456789abcdef")
                                    .find(static_cast<char>(peek() >= 'A' && peek() <= 'F' ? peek() + 32 : peek()));
      if (!more() || digit == std::string_view::npos) return bad("{} hexadecimal digits are expected", digits);
      value = value * 16 + static_cast<char32_t>(digit);
      if (value > kCodePointMax) return bad("there is no such character");
    }
    return value;
  }

  Compiled<Index> literal() {
    std::vector<Index> parts;
    while (peek() != '"') {
      if (!more() || peek() == '\n') return bad("a literal does not end");
      LLORCH_TRY(const char32_t c, character());
      parts.push_back(tree_.add_set({{c, c}}));
      if (tree_.size() > kNetStatesMax) return bad("the rule is too long");
    }
    ++at_;
    return tree_.add_list(Pattern::Kind::kSequence, std::move(parts));
  }

  Compiled<Index> character_class() {
    const bool negated = take("^");
    std::vector<CodePoints> set;
    while (peek() != ']') {
      if (!more() || peek() == '\n') return bad("a character class does not end");
      LLORCH_TRY(const char32_t low, character());
      char32_t high = low;
      if (peek() == '-' && peek(1) != ']') {
        ++at_;
        LLORCH_TRY(high, character());
        if (high < low) return bad("a range of characters is the wrong way round");
      }
      set.push_back({low, high});
    }
    ++at_;
    return tree_.add_set(negated ? complement(std::move(set)) : std::move(set));
  }

  Pattern tree_;
  std::shared_ptr<Network> net_ = std::make_shared<Network>();
  std::map<std::string, Known> rules_;
};

}  // namespace

Compiled<Grammar> Grammar::from_gbnf(std::string_view text) {
  LLORCH_TRY(std::shared_ptr<const Network> net, GbnfParser(text).run());
  return Grammar(std::move(net));
}

}  // namespace llorch
