#include "grammar/pattern.h"

#include <algorithm>
#include <optional>

#include "grammar/limits.h"
#include "grammar/scanner.h"
#include "text/utf8.h"

namespace llorch {

using namespace grammar_limits;

void normalize(std::vector<CodePoints>& set) {
  std::sort(set.begin(), set.end(), [](const auto& a, const auto& b) { return a.low < b.low; });
  std::size_t size = 0;
  for (const CodePoints& c : set) {
    if (size && c.low <= set[size - 1].high + 1)
      set[size - 1].high = std::max(set[size - 1].high, c.high);
    else
      set[size++] = c;
  }
  set.resize(size);
}

std::vector<CodePoints> complement(std::vector<CodePoints> set) {
  normalize(set);
  std::vector<CodePoints> out;
  char32_t next = 0;
  for (const CodePoints& c : set) {
    if (c.low > next) out.push_back({next, c.low - 1});
    next = c.high + 1;
  }
  if (next <= kCodePointMax) out.push_back({next, kCodePointMax});
  return out;
}

Pattern::Index Pattern::add(Node node) {
  for (const Index child : node.children) node.repeats = std::max(node.repeats, nodes_[child].repeats);
  if (node.kind == Kind::kRepeat) ++node.repeats;
  nodes_.push_back(std::move(node));
  return static_cast<Index>(nodes_.size() - 1);
}

Pattern::Index Pattern::add_set(std::vector<CodePoints> set) {
  Node node;
  node.kind = Kind::kSet;
  normalize(set);
  node.set = std::move(set);
  return add(std::move(node));
}

Pattern::Index Pattern::add_text(std::string_view text) {
  std::vector<Index> children;
  for (std::size_t i = 0; i < text.size();) {
    const int length = std::max(1, utf8_sequence(text.substr(i)));
    const char32_t c = utf8_code_point(text.substr(i), length);
    children.push_back(add_set({{c, c}}));
    i += static_cast<std::size_t>(length);
  }
  return add_list(Kind::kSequence, std::move(children));
}

Pattern::Index Pattern::add_repeat(Index child, std::uint32_t least, std::uint32_t most) {
  Node node;
  node.kind = Kind::kRepeat;
  node.least = least, node.most = most;
  node.children = {child};
  return add(std::move(node));
}

Pattern::Index Pattern::add_list(Kind kind, std::vector<Index> children) {
  if (children.size() == 1) return children[0];
  Node node;
  node.kind = children.empty() ? Kind::kEmpty : kind;
  node.children = std::move(children);
  return add(std::move(node));
}

namespace {

const std::vector<CodePoints> kDigits{{'0', '9'}};
const std::vector<CodePoints> kWord{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
// What ECMA-262 and common engines agree on, and whatever any of them calls a space.
const std::vector<CodePoints> kSpaces{{'\t', '\r'}, {' ', ' '}};
const std::vector<CodePoints> kAllSpaces{{'\t', '\r'},     {0x1c, ' '},      {0x85, 0x85},     {0xa0, 0xa0},
                                         {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                                         {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
const std::vector<CodePoints> kLineEnds{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class Parser : Scanner {
 public:
  Parser(std::string_view text, Pattern::Spaces spaces) : Scanner(text, "regex"), spaces_(spaces) {}

  Compiled<Pattern> parse() {
    if (!utf8_valid(text_)) return refuse("byte 0", "regex", "the pattern is not valid UTF-8");
    if (text_.size() > kSourceBytesMax) return refuse("byte 0", "regex", "the pattern is too long");
    LLORCH_TRY(const Pattern::Index root, choice(0));
    if (at_ < text_.size()) return bad("an unmatched )");
    out_.set_root(root);
    return std::move(out_);
  }

 private:
  using Index = Pattern::Index;

  char32_t take_code_point() {
    const int length = utf8_sequence(text_.substr(at_));
    const char32_t c = utf8_code_point(text_.substr(at_), length);
    at_ += static_cast<std::size_t>(length);
    return c;
  }

  Compiled<Index> choice(int depth) {
    if (depth > kNestingMax) return bad("groups are nested more than {} deep", kNestingMax);
    std::vector<Index> branches;
    do {
      LLORCH_TRY(const Index branch, sequence(depth));
      branches.push_back(branch);
    } while (take("|"));
    return out_.add_list(Pattern::Kind::kChoice, std::move(branches));
  }

  Compiled<Index> sequence(int depth) {
    std::vector<Index> parts;
    while (more() && peek() != '|' && peek() != ')') {
      LLORCH_TRY(const Index part, atom(depth));
      LLORCH_TRY(const Index counted, quantified(part));
      parts.push_back(counted);
      if (out_.size() > kNetStatesMax) return bad("the pattern is too long");
    }
    return out_.add_list(Pattern::Kind::kSequence, std::move(parts));
  }

  Compiled<Index> atom(int depth) {
    const char c = peek();
    if (c == '*' || c == '+' || c == '?') return bad("nothing to repeat before {}", c);
    if (c == '(') return group(depth);
    if (c == '[') return character_class();
    if (c == '\\') return escape();
    if (take("^")) return anchor(Pattern::Kind::kBegin);
    if (take("$")) return anchor(Pattern::Kind::kEnd);
    if (take(".")) return out_.add_set(complement(kLineEnds));
    const char32_t code_point = take_code_point();
    return out_.add_set({{code_point, code_point}});
  }

  Index anchor(Pattern::Kind kind) {
    Pattern::Node node;
    node.kind = kind;
    return out_.add(std::move(node));
  }

  Compiled<Index> group(int depth) {
    ++at_;
    if (take("?")) {
      if (take("=") || take("!") || take("<=") || take("<!")) return bad("lookahead and lookbehind are not supported");
      if (take("<") || take("P<")) {
        while (more() && peek() != '>') ++at_;
        if (!take(">")) return bad("a group's name does not end");
      } else if (!take(":")) {
        return bad("flags and other special groups are not supported");
      }
    }
    LLORCH_TRY(const Index inner, choice(depth + 1));
    if (!take(")")) return bad("a group does not end");
    return inner;
  }

  [[nodiscard]] std::optional<std::uint32_t> number() {
    if (peek() < '0' || peek() > '9') return std::nullopt;
    std::uint64_t n = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_)
      n = std::min<std::uint64_t>(n * 10 + static_cast<unsigned>(peek() - '0'), kNone);
    return static_cast<std::uint32_t>(n);
  }

  /// {n}, {n,} or {n,m} at the cursor; else nothing is taken, and { stands for itself.
  bool counts(std::uint32_t& least, std::uint32_t& most) {
    const std::size_t before = at_;
    if (take("{")) {
      if (const auto n = number()) {
        least = most = *n;
        if (take(",")) most = number().value_or(kNone);
        if (take("}")) return true;
      }
    }
    at_ = before;
    return false;
  }

  Compiled<Index> quantified(Index part) {
    std::uint32_t least = 0, most = kNone;
    const std::size_t before = at_;
    if (peek() == '{' && peek(1) == ',' && peek(2) >= '0' && peek(2) <= '9')
      return bad("engines do not agree on what {{,n}} means: write {{0,n}}");
    if (take("*")) {
    } else if (take("+")) {
      least = 1;
    } else if (take("?")) {
      most = 1;
    } else if (!counts(least, most)) {
      return part;
    }
    take("?");  // lazy: the same language
    if (at_ > before && (peek() == '*' || peek() == '+' || peek() == '?'))
      return bad("a quantifier after a quantifier");
    if (least > most) return bad("the repetition {{{},{}}} is the wrong way round", least, most);
    if (least > kRepeatMax || (most != kNone && most > kRepeatMax)) return bad("more than {} repetitions", kRepeatMax);
    return out_.add_repeat(part, least, most);
  }

  Compiled<char32_t> hex(std::size_t digits) {
    char32_t value = 0;
    for (std::size_t i = 0; i < digits; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return bad("{} hexadecimal digits are missing", digits);
      value = value * 16 + static_cast<char32_t>(digit);
    }
    return value;
  }

  Compiled<char32_t> unicode_escape() {
    if (take("{")) {
      char32_t value = 0;
      while (more() && peek() != '}' && value <= kCodePointMax) {
        LLORCH_TRY(const char32_t digit, hex(1));
        value = value * 16 + digit;
      }
      if (!take("}") || value > kCodePointMax) return bad("\\u{{...}} names no character");
      return value;
    }
    LLORCH_TRY(const char32_t unit, hex(4));
    if (unit < 0xd800 || unit > 0xdbff || !text_.substr(at_).starts_with("\\u") || peek(2) == '{') return unit;
    const std::size_t before = at_;
    at_ += 2;
    LLORCH_TRY(const char32_t low, hex(4));
    if (low >= 0xdc00 && low <= 0xdfff) return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    at_ = before;
    return unit;
  }

  /// A character behind a backslash, which is taken.
  Compiled<char32_t> escaped_character() {
    constexpr std::string_view kNames = "nrtfv0", kValues{"\n\r\t\f\v\0", 6};
    const char c = peek();
    if (const std::size_t i = kNames.find(c); more() && i != kNames.npos) {
      ++at_;
      if (c == '0' && peek() >= '0' && peek() <= '9') return bad("octal escapes are not supported");
      return static_cast<char32_t>(kValues[i]);
    }
    if (take("x")) return hex(2);
    if (take("u")) return unicode_escape();
    if (take("c")) {
      const char letter = peek();
      if (!((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z'))) return bad("\\c needs a letter");
      ++at_;
      return static_cast<char32_t>(letter & 31);
    }
    if (!more()) return bad("the pattern ends in a backslash");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
      return bad("\\{} is not supported", c);
    return take_code_point();
  }

  /// \d and the like: nothing taken when it is another escape. `negated`: the class around it is a complement, which
  /// turns what is too narrow into what is too wide.
  std::optional<std::vector<CodePoints>> class_escape(bool negated) {
    const bool narrow = (spaces_ == Pattern::Spaces::kCertain) != negated;
    const char c = peek(1);
    std::optional<std::vector<CodePoints>> set;
    if (c == 'd') set = kDigits;
    if (c == 'D') set = complement(kDigits);
    if (c == 'w') set = kWord;
    if (c == 'W') set = complement(kWord);
    if (c == 's') set = narrow ? kSpaces : kAllSpaces;
    if (c == 'S') set = complement(narrow ? kAllSpaces : kSpaces);
    if (c == 's' || c == 'S') out_.set_has_spaces();
    if (set) at_ += 2;
    return set;
  }

  Compiled<Index> escape() {
    if (auto set = class_escape(false)) return out_.add_set(*std::move(set));
    ++at_;
    LLORCH_TRY(const char32_t c, escaped_character());
    return out_.add_set({{c, c}});
  }

  Compiled<char32_t> class_character() {
    if (!take("\\")) return take_code_point();
    if (take("b")) return U'\b';
    if (take("-")) return U'-';
    return escaped_character();
  }

  Compiled<Index> character_class() {
    ++at_;
    const bool negated = take("^");
    std::vector<CodePoints> set;
    while (peek() != ']') {
      if (!more()) return bad("a character class does not end");
      if (peek() == '\\')
        if (auto named = class_escape(negated)) {
          set.insert(set.end(), named->begin(), named->end());
          continue;
        }
      LLORCH_TRY(const char32_t low, class_character());
      char32_t high = low;
      const bool before_class =
          peek(1) == '\\' && peek(2) != '\0' && std::string_view("dDwWsS").find(peek(2)) != std::string_view::npos;
      if (peek() == '-' && peek(1) != ']' && peek(1) != '\0' && !before_class) {
        ++at_;
        LLORCH_TRY(high, class_character());
        if (high < low) return bad("a range of characters is the wrong way round");
      }
      set.push_back({low, high});
    }
    ++at_;
    normalize(set);
    return out_.add_set(negated ? complement(std::move(set)) : std::move(set));
  }

  Pattern out_;
  Pattern::Spaces spaces_;
};

}  // namespace

Compiled<Pattern> Pattern::parse(std::string_view text, Spaces spaces) { return Parser(text, spaces).parse(); }

Compiled<void> Pattern::emit(Network& net, NetState from, NetState to) const { return emit(net, root_, from, to, 3); }

Compiled<void> Pattern::emit_repeat(Network& net, const Node& node, NetState from, NetState to) const {
  if (node.most == 0) {
    net.add_jump(from, to);
    return {};
  }
  if (node.least <= 1 && (node.most == 1 || node.most == kNone)) {
    const NetState start = net.add_state(), end = net.add_state();
    net.add_jump(from, start);
    net.add_jump(end, to);
    if (node.least == 0) net.add_jump(start, end);
    if (node.most == kNone) net.add_jump(end, start);
    return emit(net, node.children[0], start, end, 0);
  }
  const NetRule rule = net.add_rule();
  const NetState end = net.add_state(), start = net.add_state();
  if (net.full()) return {};
  net.set_end(end);
  net.add_jump(from, start);
  net.add_call(start, rule, to, node.least, node.most);
  return emit(net, node.children[0], net.rule(rule).start, end, 0);
}

/// `side`: bit 0 where the tree begins the whole text, bit 1 where it ends it.
Compiled<void> Pattern::emit(Network& net, Index index, NetState from, NetState to, unsigned side) const {
  const Node& node = nodes_[index];
  if (net.full()) return {};
  switch (node.kind) {
    case Kind::kBegin:
    case Kind::kEnd:
      if (!(side & (node.kind == Kind::kBegin ? 1u : 2u)))
        return refuse("", "regex", "{} in the middle of a pattern is not supported here",
                      node.kind == Kind::kBegin ? '^' : '$');
      net.add_jump(from, to);
      return {};
    case Kind::kEmpty: net.add_jump(from, to); return {};
    case Kind::kSet:
      for (const CodePoints& c : node.set) net.add_code_points(from, c.low, c.high, to);
      return {};
    case Kind::kRule: {
      const NetState call = net.add_state();
      net.add_jump(from, call);
      net.add_call(call, node.rule, to);
      return {};
    }
    case Kind::kRepeat: return emit_repeat(net, node, from, to);
    case Kind::kChoice:
      for (const Index child : node.children) {
        const NetState start = net.add_state();
        net.add_jump(from, start);
        LLORCH_OK(emit(net, child, start, to, side));
      }
      return {};
    case Kind::kSequence:
      for (std::size_t i = 0; i < node.children.size(); ++i) {
        const bool last = i + 1 == node.children.size();
        const NetState next = last ? to : net.add_state();
        LLORCH_OK(emit(net, node.children[i], from, next, (i == 0 ? side & 1u : 0u) | (last ? side & 2u : 0u)));
        from = next;
      }
      return {};
  }
  return {};
}

}  // namespace llorch
