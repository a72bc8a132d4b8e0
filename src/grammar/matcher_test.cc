// Masks, forced text and places of a text, over small vocabularies and over a real one.
#include "grammar/matcher.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "base/test_memory.h"
#include "format/gguf.h"
#include "test_data.h"
#include "text/utf8.h"

namespace llorch {
namespace {

/// Each token tried by itself: what a mask has to be.
std::vector<std::uint32_t> slow_mask(const Matcher& matcher, const Vocabulary& vocabulary) {
  std::vector<std::uint32_t> bits(vocabulary.mask_words(), 0);
  for (std::uint32_t id = 0; id < vocabulary.size(); ++id) {
    Matcher copy = matcher;
    if (copy.advance_token(id)) bits[id >> 5] |= 1u << (id & 31);
  }
  return bits;
}

void expect_masks(const std::shared_ptr<Constraint>& constraint, std::string_view text, std::size_t stride = 1) {
  Matcher matcher(constraint);
  std::vector<std::uint32_t> bits(constraint->vocabulary().mask_words());
  for (std::size_t i = 0;; ++i) {
    ASSERT_TRUE(matcher.mask(bits));
    if (i % stride == 0) {
      const auto expected = slow_mask(matcher, constraint->vocabulary());
      for (std::uint32_t id = 0; id < constraint->vocabulary().size(); ++id)
        ASSERT_EQ(bits[id >> 5] >> (id & 31) & 1, expected[id >> 5] >> (id & 31) & 1)
            << "behind " << text.substr(0, i) << " token " << constraint->vocabulary().bytes(id);
      std::vector<std::uint32_t> again(bits.size());
      ASSERT_TRUE(matcher.mask(again));
      ASSERT_EQ(again, bits) << "the kept mask";
    }
    if (i == text.size()) break;
    ASSERT_TRUE(matcher.advance(text.substr(i, 1))) << "byte " << i << " of " << text;
  }
  EXPECT_TRUE(matcher.can_end()) << text;
}

/// All bytes, and random texts over what JSON is made of, quotes and escapes and parts of characters among them.
std::shared_ptr<const Vocabulary> made_vocabulary(std::size_t size) {
  std::vector<std::string> tokens{""};
  for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
  const std::string parts[] = {"a",    "b",        "name",  "\"",      "\",",  "\":",    "{\"",        "\\",
                               "\\u",  "00e9",     "\\n",   "\xc3",    "\xa9", "\u20ac", "\U0001f600", " ",
                               ": ",   ", ",       "\n",    "12",      "0",    "}",      "]",          "[",
                               "true", "\xf0\x9f", "ud83d", "\\ude00", "x"};
  std::mt19937 random(3);
  while (tokens.size() < size) {
    std::string text;
    for (std::size_t n = 1 + random() % 5; n > 0; --n) text += parts[random() % std::size(parts)];
    tokens.push_back(text);
  }
  tokens.emplace_back("");
  const auto end = static_cast<std::uint32_t>(tokens.size() - 1);
  return std::make_shared<const Vocabulary>(std::move(tokens), std::vector<std::uint32_t>{end});
}

struct MaskCase {
  const char *schema, *text;
};
const MaskCase kCases[] = {
    {R"({"type":"object","properties":{"name":{"type":"string"},"b":{"type":"number"}},"required":["name"]})",
     R"({"name": "a \u00e9\n€", "b": -1.5e3, "namex": [true, null]})"},
    {R"({"type":"string","minLength":2,"maxLength":9})", "\"a\u20ac\\\"b\\ud83d\\ude00name\""},
    {R"({"type":"string","minLength":3})", "\"abab\""},
    {R"({"type":"string","pattern":"^[ab]+(name)?$"})", R"("abname")"},
    {R"({"type":"array","items":{"enum":["a","ab",12,true]},"minItems":2,"maxItems":3})", R"(["a", 12,"ab"])"},
    {R"({"anyOf":[{"type":"string"},{"type":"string","maxLength":2},{"const":"name"}]})", R"("name")"},
    {R"({"type":"object","patternProperties":{"^x":{"type":"integer"}},"additionalProperties":{"type":"string"},"properties":{"é":true}})",
     "{\"\u00e9\": {}, \"x1\": 0,\n  \"y\": \"\"}"},
    // Nearly any character, for ever or so many times: most of the vocabulary at once, and not one token too many.
    {R"({"type":"string","pattern":"a[0-2]{2}e"})", R"("xa€a00eb\"")"},
    {R"({"type":"string","pattern":"^.{3,200}$"})", R"("name é€")"},
    {R"({"type":"string","pattern":"^\\S+$","maxLength":5})", R"("a€b12")"},
    {R"({"type":"string","pattern":"^[^b]*(b[^b]{0,12})?$"})", R"("aébname12")"},
    {R"({"type":"string","pattern":"^(a|é|\ud83d\ude00|[0-9])*x[^é]*$"})", "\"aé\U0001f60012xname\u20ac\""},
};

TEST(Matcher, masks_are_what_trying_each_token_gives) {
  const auto vocabulary = made_vocabulary(1500);
  for (const MaskCase& c : kCases) {
    const auto grammar = Grammar::from_json_schema(c.schema);
    ASSERT_TRUE(grammar) << grammar.error().message;
    expect_masks(std::make_shared<Constraint>(*grammar, vocabulary), c.text);
  }
  const auto pattern = Grammar::from_regex("(a|b|name)*[\"\u20ac]{0,2}");
  ASSERT_TRUE(pattern);
  expect_masks(std::make_shared<Constraint>(*pattern, vocabulary), "abname\u20ac\"");
}

/// Tokens that end inside of characters, whose rest only some grammars take.
TEST(Matcher, masks_of_tokens_that_end_inside_of_a_character) {
  std::vector<std::string> tokens{""};
  for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
  const std::string text = "aé\u0416€\u4e2d\u4e8c\U0001f600\U0001f601";
  for (std::size_t from = 0; from < text.size(); ++from)
    for (std::size_t size = 2; from + size <= text.size(); ++size) tokens.push_back(text.substr(from, size));
  // Enough to be searched for, with bytes that are no text here and there.
  for (int i = 0; i < 6000; ++i) tokens.push_back(fmt::format("{:04}{}", i, i % 7 ? "\u4e2d" : "\xe4\xb8\xe4"));
  const auto vocabulary = std::make_shared<const Vocabulary>(tokens, std::vector<std::uint32_t>{0});
  for (const char* pattern : {"[\u4e2d\u4e8c€a0-9]*", "[^\u4e2d]*", "[^\u4e2d-\u4e8c]{0,9}", "[^0]{0,7}", "(.|\\n)*",
                              "[0-9]{4}.[^\U0001f600]*", "(\u4e2d|[0-9a]){0,20}"}) {
    const auto grammar = Grammar::from_regex(pattern);
    ASSERT_TRUE(grammar) << pattern;
    const auto constraint = std::make_shared<Constraint>(*grammar, vocabulary);
    for (const std::string_view before : {"", "0000", "0000a", "0000€"}) {
      Matcher matcher(constraint);
      if (!matcher.advance(before)) continue;
      std::vector<std::uint32_t> bits(vocabulary->mask_words());
      ASSERT_TRUE(matcher.mask(bits));
      EXPECT_EQ(bits, slow_mask(matcher, *vocabulary)) << pattern << " behind " << before;
    }
  }
}

TEST(Matcher, masks_over_a_published_vocabulary) {
  LLORCH_NEED_TEST_DATA(path, "vocab/llama-bpe.gguf");
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file);
  const auto tokenizer = Tokenizer::from_gguf((*file)->metadata());
  ASSERT_TRUE(tokenizer);
  const auto vocabulary = Vocabulary::of(**tokenizer);
  for (const MaskCase& c : kCases) {
    const auto grammar = Grammar::from_json_schema(c.schema);
    ASSERT_TRUE(grammar);
    expect_masks(std::make_shared<Constraint>(*grammar, vocabulary), c.text, kSanitized ? 120 : 7);
  }
}

TEST(Matcher, end_tokens_come_where_a_text_may_end) {
  const auto vocabulary = made_vocabulary(300);
  const auto end = static_cast<std::uint32_t>(vocabulary->size() - 1);
  Matcher matcher(std::make_shared<Constraint>(*Grammar::from_regex("ab?"), vocabulary));
  std::vector<std::uint32_t> bits(vocabulary->mask_words());
  const auto ends = [&] {
    EXPECT_TRUE(matcher.mask(bits));
    return (bits[end >> 5] >> (end & 31) & 1) == 1;
  };
  EXPECT_FALSE(ends());
  EXPECT_FALSE(matcher.advance_token(end));
  EXPECT_TRUE(matcher.advance("a"));
  EXPECT_TRUE(ends());
  EXPECT_TRUE(matcher.advance_token(end));
  EXPECT_FALSE(matcher.advance("c")) << "refused, and nothing taken";
  EXPECT_TRUE(matcher.advance("b"));
  EXPECT_TRUE(ends());
  EXPECT_FALSE(matcher.advance_token(0)) << "a token without text";
  EXPECT_FALSE(matcher.advance_token(1u << 30));
}

TEST(Matcher, copies_are_places_of_their_own) {
  Matcher first(std::make_shared<Constraint>(*Grammar::from_regex("a(b|c){3}d"), made_vocabulary(300)));
  ASSERT_TRUE(first.advance("ab"));
  Matcher draft = first;
  EXPECT_TRUE(draft.advance("cbd"));
  EXPECT_TRUE(draft.can_end());
  EXPECT_FALSE(first.can_end());
  EXPECT_FALSE(first.advance("d"));
  EXPECT_TRUE(first.advance("bbd"));
}

TEST(Matcher, forced_text_is_all_that_there_is_one_way_to) {
  SchemaOptions compact;
  compact.whitespace = JsonWhitespace::kCompact;
  const auto grammar = Grammar::from_json_schema(
      R"({"type":"object","properties":{"kind":{"const":"point"},"x":{"type":"integer"}},"required":["kind","x"],"additionalProperties":false})",
      compact);
  ASSERT_TRUE(grammar);
  Matcher matcher(std::make_shared<Constraint>(*grammar, made_vocabulary(300)));
  EXPECT_EQ(matcher.forced(), R"({"kind":"point","x":)");
  ASSERT_TRUE(matcher.advance(matcher.forced()));
  EXPECT_EQ(matcher.forced(), "") << "a digit or a sign";
  ASSERT_TRUE(matcher.advance("0"));
  EXPECT_EQ(matcher.forced(), "}");
  ASSERT_TRUE(matcher.advance("}"));
  EXPECT_EQ(matcher.forced(), "");
  Matcher optional(std::make_shared<Constraint>(*Grammar::from_regex("ab?"), made_vocabulary(300)));
  EXPECT_EQ(optional.forced(), "a") << "it may end there";
  Matcher endless(std::make_shared<Constraint>(*Grammar::from_regex("a{100000}"), made_vocabulary(300)));
  EXPECT_EQ(endless.forced(), std::string(4096, 'a'));
}

TEST(Matcher, what_was_learnt_is_dropped_and_texts_go_on) {
  const auto vocabulary = made_vocabulary(300);
  const auto constraint = std::make_shared<Constraint>(*Grammar::from_regex("(a{1,200000}[bc])*"), vocabulary);
  Matcher early(constraint), late(constraint);
  ASSERT_TRUE(early.advance("aaab"));
  std::size_t most = 0;
  for (int i = 0; i < 130; ++i) {
    ASSERT_TRUE(late.advance(std::string(1000, 'a')));
    most = std::max(most, constraint->states());
  }
  EXPECT_LT(constraint->states(), most) << "states were dropped";
  EXPECT_LT(most, 30'000u);
  EXPECT_TRUE(late.advance("b"));
  EXPECT_FALSE(early.advance("b"));
  EXPECT_TRUE(early.advance("ac"));
  EXPECT_TRUE(early.can_end());
}

TEST(Matcher, ambiguity_beyond_the_limit_is_an_error) {
  // Counts of two nested repetitions: a state for each pair of them.
  const auto grammar = Grammar::from_regex("((a{1,2000}){1,2000}b?){1,2000}c");
  ASSERT_TRUE(grammar);
  const auto vocabulary = made_vocabulary(300);
  Matcher matcher(std::make_shared<Constraint>(*grammar, vocabulary));
  std::vector<std::uint32_t> bits(vocabulary->mask_words());
  bool refused = false;
  for (int i = 0; i < 3000 && !refused; ++i) refused = !matcher.advance("a") || !matcher.mask(bits);
  EXPECT_TRUE(refused);
}

/// Every character leads to states of its own, each with many positions: what is looked for in place of trying tokens
/// must not take more than they do.
TEST(Matcher, a_search_that_finds_no_end_is_given_up) {
  std::vector<std::string> tokens{""};
  for (char32_t c = 0x4e00; c < 0x4e00 + 6000; ++c) {
    std::string text;
    utf8_append(text, c);
    tokens.push_back(text), tokens.push_back(text + text);
  }
  for (int i = 0; i < 6000; ++i) tokens.push_back(fmt::format("{:x} {}", i, i));
  const auto vocabulary = std::make_shared<const Vocabulary>(tokens, std::vector<std::uint32_t>{0});
  std::string source = "root ::= ([^\\n] [^\\n]* \"end\"";
  for (int i = 0; i < 400; ++i) source += fmt::format(" | . . . \"tail {}\"", i);
  for (int i = 0; i < 3000; ++i) {
    source += " | \"";
    utf8_append(source, 0x4e00 + static_cast<char32_t>(i));
    source += fmt::format("\" [a-z]* \"{}\"", i);
  }
  const auto grammar = Grammar::from_gbnf(source + ")");
  ASSERT_TRUE(grammar) << grammar.error().error().message;
  const auto constraint = std::make_shared<Constraint>(*grammar, vocabulary);
  Matcher matcher(constraint);
  std::vector<std::uint32_t> bits(vocabulary->mask_words());
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(matcher.mask(bits));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(kSanitized ? 60 : 3));
  EXPECT_LT(constraint->states(), 20'000u);
  EXPECT_EQ(bits, slow_mask(matcher, *vocabulary));
}

TEST(Matcher, a_mask_that_takes_too_much_work_is_an_error) {
  const auto grammar = Grammar::from_regex("((.{1,900}){1,900}[^a]{1,900}){1,900}");
  ASSERT_TRUE(grammar);
  const auto vocabulary = made_vocabulary(60'000);
  Matcher matcher(std::make_shared<Constraint>(*grammar, vocabulary));
  std::vector<std::uint32_t> bits(vocabulary->mask_words());
  bool refused = false;
  for (int i = 0; i < 400 && !refused; ++i) refused = !matcher.advance(std::string(20, 'b')) || !matcher.mask(bits);
  EXPECT_TRUE(refused);
  EXPECT_FALSE(matcher.mask(bits)) << "what was found on the way does not make it cheaper";
}

}  // namespace
}  // namespace llorch
