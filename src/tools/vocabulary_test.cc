// Real vocabularies beside the templates of their models: markers that are control tokens, and masks along whole calls.
#include <gtest/gtest.h>

#include <set>

#include "format/gguf.h"
#include "grammar/matcher.h"
#include "grammar/vocabulary.h"
#include "text/tokenizer.h"
#include "tools/call_grammar.h"
#include "tools/test_templates.h"

namespace llorch::tools {
namespace {

struct RealModel {
  std::unique_ptr<Tokenizer> tokenizer;
  TestTemplate chat;
  std::vector<std::string> controls, ends;

  bool as_control;

  /// `as_control`: the format's tokens are control tokens, as vocabularies of other origin have them; these files have
  /// them as text.
  RealModel(const std::string& vocabulary, const std::string& name, bool markers_are_control)
      : chat(read_text_file(test_data_path("templates/" + name + ".jinja"), 1 << 20).value()) {
    const auto source = GgufFile::open(vocabulary);
    tokenizer = Tokenizer::from_gguf((*source)->metadata()).value();
    as_control = markers_are_control;
    for (std::size_t i = 0; i < tokenizer->size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      if (!control(id)) continue;
      if (chat.format.holds(tokenizer->token(id).text)) controls.push_back(tokenizer->token(id).text);
      if (tokenizer->ends(id)) ends.push_back(tokenizer->token(id).text);
    }
  }
  [[nodiscard]] bool control(TokenId id) const {
    const Token& token = tokenizer->token(id);
    return token.kind == TokenKind::kControl || (as_control && token.kind == TokenKind::kUserDefined &&
                                                 token.text.size() > 4 && chat.format.holds(token.text));
  }
  [[nodiscard]] std::shared_ptr<const Vocabulary> words() const {
    std::vector<std::string> tokens(tokenizer->size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      tokens[i] = control(id) ? control_mark(tokenizer->token(id).text) : tokenizer->piece(id);
    }
    std::vector<std::uint32_t> ids;
    for (const TokenId id : tokenizer->end_ids()) ids.push_back(static_cast<std::uint32_t>(id));
    return std::make_shared<const Vocabulary>(std::move(tokens), std::move(ids));
  }
  /// What the model writes from the block's first byte on, up to the end of the answer.
  [[nodiscard]] TokenIds written(const TestCalls& calls) const {
    std::string part = chat.own_part(calls).value();
    part.erase(0, part.find(chat.format.begin()));
    TokenIds ids = tokenizer->encode(part, {.add_special = false, .parse_special = true}).value();
    const auto end = std::find_if(ids.begin(), ids.end(), [&](TokenId id) { return tokenizer->ends(id); });
    ids.erase(end, ids.end());
    return ids;
  }
};

void expect_calls_in_tokens(const std::string& vocabulary, const std::string& name, bool as_control) {
  const RealModel model(vocabulary, name, as_control);
  EXPECT_EQ(!model.controls.empty(), as_control) << name;
  const auto words = as_control ? model.words() : Vocabulary::of(*model.tokenizer);
  CallGrammarOptions options;
  options.controls = model.controls, options.ends = model.ends;
  const auto grammar = call_grammar(model.chat.format, model.chat.declared, options);
  ASSERT_TRUE(grammar) << grammar.error().message;
  const auto constraint = std::make_shared<Constraint>(*grammar, words);
  std::vector<std::uint32_t> mask(words->mask_words());
  int tokens = 0;
  for (const TestCalls& calls : test_calls()) {
    TokenIds ids = model.written(calls);
    ToolCallParser parser(model.chat.format, model.chat.declared, model.controls);
    Matcher matcher(constraint);
    Items items;
    bool within = true;  // the template may write more behind the calls than the model does
    for (const TokenId id : ids) {
      const auto& token = model.tokenizer->token(id);
      append(items, model.control(id) ? parser.push({}, token.text) : parser.push(model.tokenizer->piece(id)));
      if (!within) continue;
      ASSERT_TRUE(matcher.mask(mask));
      const auto at = static_cast<std::uint32_t>(id);
      const bool allowed = mask[at >> 5] >> (at & 31) & 1;
      within = allowed || !matcher.can_end();
      ASSERT_TRUE(allowed || matcher.can_end()) << name << ": " << token.text << " in " << shown(calls);
      if (allowed) {
        ASSERT_TRUE(matcher.advance_token(at));
        ++tokens;
      }
    }
    append(items, parser.finish());
    EXPECT_TRUE(matcher.can_end());
    EXPECT_EQ(shown(taken(items).calls), shown(calls)) << name;
  }
  std::printf("%s: %d tokens, each in its mask, %zu control tokens\n", name.c_str(), tokens, model.controls.size());
}

TEST(RealVocabulary, calls_by_tokens) {
  LLORCH_NEED_TEST_DATA(gemma, "vocab/gemma-4.gguf");
  LLORCH_NEED_TEST_DATA(qwen, "vocab/qwen35.gguf");
  if (!kSanitized) expect_calls_in_tokens(gemma, "google-gemma-4-31B-it", false);
  expect_calls_in_tokens(gemma, "google-gemma-4-31B-it", true);
  expect_calls_in_tokens(qwen, "Qwen3.5-4B", false);
}

TEST(RealVocabulary, spellings_of_control_tokens_are_text) {
  LLORCH_NEED_TEST_DATA(gemma, "vocab/gemma-4.gguf");
  const RealModel model(gemma, "google-gemma-4-31B-it", true);
  const std::string spelled = model.chat.own_part({{"now", {}}}).value();
  const Items items = [&] {
    ToolCallParser parser(model.chat.format, model.chat.declared, model.controls);
    Items all = parser.push(spelled);
    append(all, parser.finish());
    return all;
  }();
  EXPECT_TRUE(taken(items).calls.empty());
  EXPECT_EQ(taken(items).text, spelled);
}

}  // namespace
}  // namespace llorch::tools
