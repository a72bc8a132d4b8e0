// Grammars made of parts, and strings that stand outside of JSON.
#include "grammar/composer.h"

#include <gtest/gtest.h>

#include <random>

#include "base/utf8.h"
#include "grammar/matcher.h"
#include "test_data.h"

namespace llorch {
namespace {

bool composed_accepts(const Grammar& grammar, std::string_view text) {
  Matcher matcher(std::make_shared<Constraint>(
      grammar, std::make_shared<const Vocabulary>(std::vector<std::string>(), std::vector<std::uint32_t>())));
  return matcher.advance(text) && matcher.can_end();
}

/// A value of `schema`, raw, and the text that ends it.
Compiled<Grammar> raw_grammar(const std::string& schema, const RawValue& raw) {
  GrammarComposer composer;
  LLORCH_TRY(const auto document, SchemaDocument::parse(schema));
  SchemaCompiler compiler(*document, {}, composer.network());
  LLORCH_TRY(const NetRule value, compiler.add(document->root(), &raw));
  const NetRule parts[] = {value, composer.literal(raw.end)};
  return composer.finish(composer.sequence(parts));
}

TEST(Composer, parts) {
  GrammarComposer c;
  const NetRule words[] = {c.literal("a"), c.literal("bc"), c.literal("")};
  const std::pair<char, char> digits[] = {{'0', '9'}};
  const NetRule parts[] = {c.any_of(words), c.repeat(c.byte_of(digits), 1, 2), c.any_of(words)};
  const auto grammar = c.finish(c.sequence(parts));
  ASSERT_TRUE(grammar);
  for (const char* text : {"a1", "1", "bc42a", "a1bc"}) EXPECT_TRUE(composed_accepts(*grammar, text)) << text;
  for (const char* text : {"", "a", "a123", "ab1", "1aa"}) EXPECT_FALSE(composed_accepts(*grammar, text)) << text;
  GrammarComposer nothing;
  EXPECT_FALSE(nothing.finish(nothing.any_of({})));
}

TEST(Composer, raw_strings_stand_before_the_first_end) {
  // By definition: a text is whole when `end` is found in it at its very end and nowhere before.
  std::mt19937 random(5);
  for (const std::string end : {"ab", "aa", "aba", "\n</p>", "éa", "%%e%%"}) {
    const auto grammar = raw_grammar(R"({"type": "string"})", {.end = end});
    ASSERT_TRUE(grammar);
    int whole = 0;
    for (int i = 0; i < (kSanitized ? 100 : 3000); ++i) {
      std::string text;
      const std::string_view pieces[] = {"a", "b", "é",  "\n", end, std::string_view(end).substr(0, 1),
                                         "%", "<", "\"", "\\"};
      for (auto n = random() % 6; n > 0; --n) text += pieces[random() % std::size(pieces)];
      if (random() % 2) text += end;
      const std::size_t found = text.find(end);
      const bool want = found != std::string::npos && found + end.size() == text.size();
      if (!utf8_valid(text)) continue;
      EXPECT_EQ(composed_accepts(*grammar, text), want) << end << ": " << text;
      whole += want;
    }
    EXPECT_GT(whole, kSanitized ? 20 : 50) << end;
  }
  EXPECT_FALSE(raw_grammar(R"({"type": "string"})", {.end = ""}));
  EXPECT_FALSE(raw_grammar(R"({"type": "string"})", {.end = std::string(10'000, 'x')}));
}

TEST(Composer, raw_values_keep_their_schema) {
  RawValue raw{.end = ";"};
  const auto accepts = [&](const char* schema, const char* text) {
    const auto grammar = raw_grammar(schema, raw);
    EXPECT_TRUE(grammar) << schema;
    return grammar && composed_accepts(*grammar, text);
  };
  EXPECT_TRUE(accepts(R"({"type": "string", "pattern": "^[a-z]+$"})", "abc;"));
  EXPECT_FALSE(accepts(R"({"type": "string", "pattern": "^[a-z]+$"})", "a1;"));
  EXPECT_TRUE(accepts(R"({"type": "string", "minLength": 2, "maxLength": 3})", "éé;"));
  EXPECT_FALSE(accepts(R"({"type": "string", "minLength": 2, "maxLength": 3})", "é;"));
  EXPECT_TRUE(accepts(R"({"enum": ["x y", 5, "a;b"]})", "x y;"));
  EXPECT_TRUE(accepts(R"({"enum": ["x y", 5, "a;b"]})", "5;"));
  EXPECT_FALSE(accepts(R"({"enum": ["x y", 5, "a;b"]})", "a;b;"));  // cannot be carried
  EXPECT_FALSE(accepts(R"({"enum": ["x y"]})", "\"x y\";"));
  EXPECT_TRUE(accepts(R"({"type": "array", "items": {"type": "string"}})", "[\"a;b\"];"));  // inside: JSON
  EXPECT_FALSE(accepts(R"({"type": "array", "items": {"type": "string"}})", "[a];"));
  EXPECT_FALSE(accepts(R"({"type": "boolean"})", "True;"));
  raw.true_word = "True", raw.null_word = "None";
  EXPECT_TRUE(accepts(R"({"type": ["boolean", "null"]})", "True;"));
  EXPECT_TRUE(accepts(R"({"type": ["boolean", "null"]})", "null;"));
  EXPECT_FALSE(accepts(R"({"type": "boolean"})", "None;"));
  raw.types = kTypeString;
  EXPECT_FALSE(accepts(R"({"type": ["string", "integer"], "maxLength": 0})", "5;"));
}

}  // namespace
}  // namespace llorch
