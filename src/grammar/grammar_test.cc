// Patterns, GBNF and networks: against a slow reference reading of the network, and against PCRE2.
#include "grammar/grammar.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <map>
#include <random>
#include <set>

#include "grammar/automaton.h"
#include "grammar/limits.h"
#include "grammar/matcher.h"
#include "grammar/test_reference_matcher.h"
#include "test_data.h"
#include "text/regex.h"
#include "text/utf8.h"

namespace llorch {
namespace {

std::shared_ptr<const Vocabulary> no_vocabulary() {
  return std::make_shared<const Vocabulary>(std::vector<std::string>(), std::vector<std::uint32_t>());
}

/// Reads one text after another, and keeps what it has learnt, as for the requests of one grammar.
class Reader {
 public:
  explicit Reader(const Grammar& grammar) : constraint_(std::make_shared<Constraint>(grammar, no_vocabulary())) {}
  bool accepts(std::string_view text) const {
    Matcher matcher(constraint_);
    return matcher.advance(text) && matcher.can_end();
  }

 private:
  std::shared_ptr<Constraint> constraint_;
};

bool accepts(const Grammar& grammar, std::string_view text) { return Reader(grammar).accepts(text); }

std::string refusal(const Compiled<Grammar>& grammar) {
  return grammar ? "compiled"
                 : grammar.error().keyword + " at " + grammar.error().pointer + ": " + grammar.error().message;
}

std::string random_text(std::mt19937& random, std::string_view letters, std::size_t most) {
  std::string out;
  for (std::size_t n = random() % (most + 1); n > 0; --n) out += letters[random() % letters.size()];
  return out;
}

TEST(Grammar, patterns_accept_what_pcre2_matches) {
  const char* patterns[] = {"a*b",      "(a|ab)(c|bcd)", "[^ab]+",      "a{2,3}b{0,2}", "(ab|a)*c?",      "\\d+x?|y",
                            "(a?){3}b", "((a|b)c)*",     "[a-c]{1,4}d", "(a*)*b",       "(a|aa){2,5}",    ".b.",
                            "^abc$|^d", "a+?b*?",        "\\w\\W",      "[\\]\\-x]+",   "(?:a|(?:b|c))d", "x{0}a"};
  std::mt19937 random(7);
  for (const std::string pattern : patterns) {
    const auto grammar = Grammar::from_regex(pattern);
    ASSERT_TRUE(grammar) << refusal(grammar);
    const Regex oracle = Regex::compile("\\A(?:" + pattern + ")\\z").value();
    const Reader reader(*grammar);
    int matched = 0;
    for (int i = 0; i < 3000; ++i) {
      const std::string text = random_text(random, "aabbccdxy- ]1", 8);
      bool expected = false;
      WorkLimit limit(std::uint64_t{1} << 60);  // PCRE2 is charged by the clock
      const auto found = oracle.each(text, limit, [&](std::size_t begin, std::size_t end) -> Status {
        expected = expected || (begin == 0 && end == text.size());
        return {};
      });
      ASSERT_TRUE(found);
      if (text.empty()) continue;  // Regex tells of no empty match
      matched += expected;
      EXPECT_EQ(reader.accepts(text), expected) << pattern << " and " << text;
      if (i % 16 == 0) {
        EXPECT_EQ(accepts(*grammar, text), expected) << pattern << " and " << text << ", with nothing learnt";
      }
    }
    EXPECT_GT(matched, 3) << pattern;
  }
}

TEST(Grammar, counts_that_engines_read_differently_are_refused) {
  EXPECT_FALSE(Grammar::from_regex("a{,2}"));
  EXPECT_TRUE(Grammar::from_regex("a{0,2}"));
  EXPECT_TRUE(accepts(*Grammar::from_regex("a{,}"), "a{,}"));
}

// Engines call different characters a space: what is produced must match in each of them.
TEST(Grammar, spaces_are_those_of_every_engine) {
  const auto in = [](char32_t c, std::initializer_list<std::pair<char32_t, char32_t>> ranges) {
    return std::ranges::any_of(ranges, [&](const auto& r) { return c >= r.first && c <= r.second; });
  };
  using Spaces = std::function<bool(char32_t)>;
  const Spaces engines[] = {
      [&](char32_t c) {
        return in(c, {{9, 13}, {32, 32}});
      },                 // PCRE2 and RE2 as they come
      [&](char32_t c) {  // ECMA-262: WhiteSpace and LineTerminator
        return in(c, {{9, 13}, {32, 32}, {0xa0, 0xa0}, {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}}) ||
               in(c, {{0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}});
      },
      [&](char32_t c) {  // Python's str.isspace
        return in(c, {{9, 13}, {28, 32}, {0x85, 0x85}, {0xa0, 0xa0}, {0x1680, 0x1680}, {0x2000, 0x200a}}) ||
               in(c, {{0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}});
      }};
  struct Case {
    const char* pattern;
    bool (*matches)(bool space, char32_t c);
    int least;  // of the characters below, accepted at least
  };
  const Case cases[] = {
      {R"(\s)", [](bool space, char32_t) { return space; }, 6},
      {R"(\S)", [](bool space, char32_t) { return !space; }, 12000},
      {R"([\sx])", [](bool space, char32_t c) { return space || c == 'x'; }, 7},
      {R"([^\s])", [](bool space, char32_t) { return !space; }, 12000},
      {R"([^\S])", [](bool space, char32_t) { return space; }, 6},
      {R"([^\sx])", [](bool space, char32_t c) { return !space && c != 'x'; }, 12000},
      {R"([^\s\S])", [](bool, char32_t) { return false; }, 0},
      {R"([^\S ])", [](bool space, char32_t c) { return space && c != ' '; }, 5},
  };
  for (const Case& c : cases) {
    const auto grammar = Grammar::from_regex(c.pattern);
    if (c.least == 0 && !grammar) continue;  // nothing matches
    ASSERT_TRUE(grammar) << refusal(grammar);
    int accepted = 0;
    const Reader reader(*grammar);
    for (char32_t x = 1; x < 0x10000; x = x == 0x3100 ? 0xfe00 : x + 1) {
      std::string text;
      utf8_append(text, x);
      if (!reader.accepts(text)) continue;
      ++accepted;
      for (const Spaces& is_space : engines)
        EXPECT_TRUE(c.matches(is_space(x), x)) << c.pattern << " and U+" << std::hex << static_cast<std::uint32_t>(x);
    }
    EXPECT_GE(accepted, c.least) << c.pattern;
  }
}

TEST(Grammar, automaton_agrees_with_the_reference_reading) {
  const char* grammars[] = {
      "root ::= \"a\" root \"b\" | \"\"",
      "root ::= item (\",\" item)*\nitem ::= \"x\" | \"[\" root \"]\"",
      "root ::= s s\ns ::= \"a\" | \"a\" s | s2 \"b\"\ns2 ::= \"a\"{1,3}",
      "root ::= (a | b){2,4} \"c\"?\na ::= \"a\" | \"\"\nb ::= \"b\" b?",
      "root ::= \"a\"* b* \"a\"*\nb ::= (\"b\" | \"\")",
      "root ::= x{0,3} y\nx ::= \"a\" | \"ab\"\ny ::= \"b\" | \"bb\" | x \"c\"",
      "root ::= (\"a\" root)? \"b\" | \"c\" root",
  };
  std::mt19937 random(11);
  for (const char* text : grammars) {
    const auto grammar = Grammar::from_gbnf(text);
    ASSERT_TRUE(grammar) << refusal(grammar);
    int accepted = 0;
    for (int i = 0; i < (kSanitized ? 1000 : 4000); ++i) {
      const std::string sample = random_text(random, "aaabbbcx,[]", 10);
      const bool expected = reference_accepts(*grammar->network(), sample);
      accepted += expected;
      ASSERT_EQ(accepts(*grammar, sample), expected) << text << "\nand " << sample;
    }
    EXPECT_GT(accepted, 3) << text;
  }
}

TEST(Grammar, gbnf_reads_its_syntax) {
  const auto grammar = Grammar::from_gbnf(R"gbnf(
# a comment
root   ::= greeting ws (name | "you") [.!]  # another
greeting ::=
    "Hello" | "hi"
  | "\x48\u0069" ","
name   ::= [A-Z] [a-z]{1,3}
ws     ::= " "+
)gbnf");
  ASSERT_TRUE(grammar) << refusal(grammar);
  for (const char* good : {"Hello Bob.", "hi   you!", "Hi, Ann!"}) EXPECT_TRUE(accepts(*grammar, good)) << good;
  for (const char* bad : {"Hello Bobby.", "hi you", "hi you?", "Hi Ann!", ""})
    EXPECT_FALSE(accepts(*grammar, bad)) << bad;
  EXPECT_EQ(refusal(Grammar::from_gbnf("root ::= other")), "gbnf at other: the rule is used, but not defined");
  EXPECT_EQ(refusal(Grammar::from_gbnf("top ::= \"a\"")), "gbnf at root: there is no rule of this name");
  EXPECT_TRUE(refusal(Grammar::from_gbnf("root ::= \"a")).starts_with("gbnf at byte 11"))
      << refusal(Grammar::from_gbnf("root ::= \"a"));
  for (const char* cut :
       {"root ::= [a-", "root ::= [a-\\", "root ::= \"\\", "root ::= \"\\x4", "root ::= a{", "root ::= (", "root"})
    EXPECT_TRUE(refusal(Grammar::from_gbnf(cut)).starts_with("gbnf at byte")) << cut;
  EXPECT_TRUE(refusal(Grammar::from_gbnf("root ::= root \"a\" | \"b\"")).starts_with("grammar at root"))
      << "left recursion";
  EXPECT_TRUE(refusal(Grammar::from_gbnf("root ::= \"a\" root")).starts_with("grammar at ")) << "no text ends";
  EXPECT_EQ(refusal(Grammar::from_gbnf("root ::= \"a\"\nroot ::= \"b\"")), "gbnf at root: the rule is defined twice");
}

TEST(Grammar, patterns_refuse_what_is_not_regular) {
  for (const char* bad :
       {"(?=a)b", "(a)\\1", "\\bword", "(?i)a", "a**", "(a", "a)", "[a", "*a", "a{3,2}", "\\p{L}", "[z-a]", "\\"})
    EXPECT_TRUE(refusal(Grammar::from_regex(bad)).starts_with("regex at byte"))
        << bad << ": " << refusal(Grammar::from_regex(bad));
  EXPECT_TRUE(refusal(Grammar::from_regex("a^b")).starts_with("regex")) << "an anchor inside";
}

TEST(Grammar, texts_are_utf8_characters) {
  const auto grammar = Grammar::from_regex("[\\u00e4-\\u00ff]\\u{1f600}?[^a]");
  ASSERT_TRUE(grammar) << refusal(grammar);
  EXPECT_TRUE(accepts(*grammar, "\u00e9\U0001f600b"));
  EXPECT_TRUE(accepts(*grammar, "\u00e9\u20ac"));
  EXPECT_FALSE(accepts(*grammar, "\u00e3b"));
  EXPECT_FALSE(accepts(*grammar, "\xe9\x62"));
  EXPECT_FALSE(accepts(*grammar, "\u00e9\xff"));
  EXPECT_FALSE(accepts(*grammar, "\u00e9\xed\xa0\x80")) << "half of a surrogate pair";
}

TEST(Grammar, counts_are_kept_not_unrolled) {
  const auto grammar = Grammar::from_regex("(a{2,1000000}b){1,3}");
  ASSERT_TRUE(grammar) << refusal(grammar);
  EXPECT_LT(grammar->network()->size(), 100u);
  EXPECT_TRUE(accepts(*grammar, std::string(70'000, 'a') + "baab")) << "more states than are kept at once";
  EXPECT_FALSE(accepts(*grammar, "ab"));
  EXPECT_FALSE(accepts(*grammar, "aabaabaabaab"));
}

TEST(Grammar, ambiguity_does_not_multiply) {
  const auto grammar =
      Grammar::from_gbnf("root ::= s\ns ::= \"a\" s t | \"a\" s u | \"a\"\nt ::= \"b\" | \"\"\nu ::= \"b\" | \"\"");
  ASSERT_TRUE(grammar) << refusal(grammar);
  EXPECT_TRUE(accepts(*grammar, std::string(300, 'a') + std::string(100, 'b')));
  EXPECT_FALSE(accepts(*grammar, std::string(30, 'a') + std::string(30, 'b')));
}

TEST(Grammar, hostile_grammars_end) {
  std::string deep(5000, '('), chain = "root ::= r0\n", wide = "root ::= ";
  for (int i = 0; i < 3000; ++i) chain += "r" + std::to_string(i) + " ::= r" + std::to_string(i + 1) + "\n";
  for (int i = 0; i < 20000; ++i) wide += "\"x" + std::to_string(i) + "\" | ";
  EXPECT_FALSE(Grammar::from_regex(deep));
  EXPECT_FALSE(Grammar::from_gbnf(chain + "r3000 ::= \"a\""));
  EXPECT_TRUE(Grammar::from_gbnf(wide + "\"y\""));
  EXPECT_TRUE(Grammar::from_regex("(((a{1,1000}){1,1000}){1,1000}){1,1000}"));
  EXPECT_TRUE(Grammar::from_regex("(a*)*(a|aa)*b{100000}"));
  EXPECT_FALSE(Grammar::from_regex("a{99999999999}"));
  std::string many;
  for (int i = 0; i < 60000; ++i) many += "r" + std::to_string(i) + " ::= \"a\"\n";
  EXPECT_FALSE(Grammar::from_gbnf("root ::= \"b\"\n" + many));
}

}  // namespace
}  // namespace llorch
