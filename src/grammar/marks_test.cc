// Grammars put together, control tokens in them, and what is settled of forced text.
#include <gtest/gtest.h>

#include "grammar/composer.h"
#include "grammar/matcher.h"
#include "grammar/vocabulary.h"

namespace llorch {
namespace {

/// All bytes, some longer texts, two control tokens, and an end token.
std::shared_ptr<const Vocabulary> vocabulary() {
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
  for (const char* text : {"</", "</thi", ">{", "{\"", "\": ", "\": \"", "name", "na"}) tokens.emplace_back(text);
  tokens.push_back(control_mark("<|a|>")), tokens.push_back(control_mark("<|ab|>"));
  tokens.emplace_back("");
  const auto end = static_cast<std::uint32_t>(tokens.size() - 1);
  return std::make_shared<const Vocabulary>(std::move(tokens), std::vector<std::uint32_t>{end});
}

bool accepts(const Compiled<Grammar>& grammar, std::string_view text) {
  if (!grammar) return ADD_FAILURE() << grammar.error().message, false;
  Matcher m(std::make_shared<Constraint>(*grammar, vocabulary()));
  return m.advance(text) && m.can_end();
}

/// What `make` puts together.
template<class Make>
Compiled<Grammar> composed(const Make& make) {
  GrammarComposer c;
  return c.finish(make(c));
}

/// Rules, counts and string bodies of grammars that are copied keep their meaning behind others.
TEST(Compose, copies_of_grammars) {
  const auto schema = Grammar::from_json_schema(R"({"type":"object","properties":{"s":{"type":"string","maxLength":2}},
      "required":["s"],"additionalProperties":{"type":"array","items":{"type":"integer"}}})")
                          .value();
  const auto nested = Grammar::from_gbnf("root ::= \"(\" root? \")\"").value();
  const auto whole = composed([&](GrammarComposer& c) {
    const NetRule parts[] = {c.copy_of(nested), c.copy_of(schema), c.copy_of(nested), c.copy_of(schema)};
    return c.sequence(parts);
  });
  EXPECT_TRUE(accepts(whole, R"((()){"s":"ab"}(){"s":"","t":[1,2]})"));
  EXPECT_FALSE(accepts(whole, R"((()){"s":"abc"}(){"s":""})"));
  EXPECT_FALSE(accepts(whole, R"((){"s":"ab"}({"s":""})"));
}

TEST(Compose, free_text_ends_at_the_first_mark) {
  const auto until = composed([](auto& c) { return c.until("</think>"); });
  for (const char* text :
       {"</think>", "a b\n</think>", "<</think>", "</thin</think>", "</</think>", "\xc3\xa9</think>"})
    EXPECT_TRUE(accepts(until, text)) << text;
  for (const char* text : {"", "abc", "</think", "</think></think>", "</think>x", "\xff<|a|>\xfe</think>"})
    EXPECT_FALSE(accepts(until, text)) << text;
  const auto twice = composed([](auto& c) { return c.until("aab"); });  // a mark that begins within itself
  for (const char* text : {"aab", "aaab", "abaab", "aaaaab", "baab"}) EXPECT_TRUE(accepts(twice, text)) << text;
  for (const char* text : {"ab", "aaba", "aabaab"}) EXPECT_FALSE(accepts(twice, text)) << text;
  EXPECT_FALSE(composed([](auto& c) { return c.until(""); }));
}

TEST(Compose, free_text_without_a_mark) {
  const auto text = composed([](auto& c) { return c.without("<call>"); });
  for (const char* good : {"", "abc", "<call", "<<cal", "call>"}) EXPECT_TRUE(accepts(text, good)) << good;
  for (const char* bad : {"<call>", "a<<call>", "<call>b"}) EXPECT_FALSE(accepts(text, bad)) << bad;
  const auto tokens = composed([](auto& c) { return c.without(control_mark("<|a|>")); });
  EXPECT_TRUE(accepts(tokens, "its spelling: <|a|>"));
  EXPECT_FALSE(accepts(tokens, "x" + control_mark("<|a|>")));
}

TEST(Compose, a_control_token_is_no_spelling) {
  const auto until = composed([](auto& c) { return c.until(control_mark("<|a|>")); });
  EXPECT_TRUE(accepts(until, "x <|a|> y" + control_mark("<|a|>")));
  EXPECT_FALSE(accepts(until, "x <|a|>"));
  EXPECT_FALSE(accepts(until, control_mark("<|ab|>") + control_mark("<|a|>")));
  const auto v = vocabulary();
  const auto mark = v->find(control_mark("<|a|>"));
  ASSERT_TRUE(mark);
  EXPECT_FALSE(v->find("<|a|>"));
  const auto constraint = std::make_shared<Constraint>(until.value(), v);
  Matcher m(constraint);
  std::vector<std::uint32_t> bits(v->mask_words());
  ASSERT_TRUE(m.mask(bits));
  const auto allowed = [&](std::uint32_t id) { return (bits[id >> 5] >> (id & 31) & 1) != 0; };
  EXPECT_TRUE(allowed(*mark));
  EXPECT_FALSE(allowed(*v->find(control_mark("<|ab|>"))));
  EXPECT_TRUE(allowed('<')) << "its spelling is text";
  EXPECT_FALSE(allowed(0xff)) << "no byte is part of a mark";
  EXPECT_FALSE(allowed(0xfe));
  EXPECT_FALSE(allowed(static_cast<std::uint32_t>(v->size() - 1))) << "the text cannot end before its mark";
  ASSERT_TRUE(m.advance_token(*mark));
  EXPECT_TRUE(m.must_end());
}

TEST(Compose, forced_control_tokens) {
  const auto whole = composed([](auto& c) {
    const NetRule parts[] = {c.literal(control_mark("<|a|>") + "name"),
                             c.copy_of(Grammar::from_regex("[0-9]").value())};
    return c.sequence(parts);
  });
  Matcher m(std::make_shared<Constraint>(whole.value(), vocabulary()));
  EXPECT_EQ(m.forced(), control_mark("<|a|>") + "name");
  EXPECT_EQ(m.settled(m.forced()), m.forced().size()) << "no token begins in it and goes on with a digit";
}

TEST(Matcher, what_is_settled_no_token_changes) {
  const auto settled = [](std::string_view pattern) {
    Matcher m(std::make_shared<Constraint>(Grammar::from_regex(pattern).value(), vocabulary()));
    const std::string forced = m.forced();
    return std::pair(forced, forced.substr(0, m.settled(forced)));
  };
  EXPECT_EQ(settled("name"), std::pair(std::string("name"), std::string("name"))) << "nothing follows";
  EXPECT_EQ(settled("x\": (\"|1)"), std::pair(std::string("x\": "), std::string("x")))
      << "a token goes on with a quote";
  EXPECT_EQ(settled("x\": [0-9]"), std::pair(std::string("x\": "), std::string("x\": ")));
  EXPECT_EQ(settled("x<[a-z]"), std::pair(std::string("x<"), std::string("x<"))) << "</ is none of its texts";
  EXPECT_EQ(settled("x<.*"), std::pair(std::string("x<"), std::string("x")));
  EXPECT_EQ(settled("[ab]").first, "");
}

TEST(Matcher, where_a_text_must_end) {
  const auto after = [](std::string_view pattern, std::string_view text) {
    Matcher m(std::make_shared<Constraint>(Grammar::from_regex(pattern).value(), vocabulary()));
    EXPECT_TRUE(m.advance(text));
    return m.must_end();
  };
  EXPECT_TRUE(after("ab", "ab"));
  EXPECT_FALSE(after("ab", "a"));
  EXPECT_FALSE(after("ab+", "ab"));
  EXPECT_TRUE(after("(ab|abc)d?", "abcd"));
}

}  // namespace
}  // namespace llorch
