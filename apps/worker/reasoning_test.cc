// Thoughts and answers are parted the same way however the text is cut into tokens (J-60).
#include "worker/reasoning.h"

#include <gtest/gtest.h>

#include "grammar/matcher.h"
#include "grammar/vocabulary.h"

namespace llorch::worker {
namespace {

Reasoning::Parts split(std::string_view text, std::size_t step, std::string_view prompt_end = "") {
  Reasoning r(Reasoning::Style::kThink, prompt_end);
  Reasoning::Parts all;
  const auto add = [&](const Reasoning::Parts& p) { all.reasoning += p.reasoning, all.content += p.content; };
  for (std::size_t i = 0; i < text.size(); i += step) add(r.push(text.substr(i, step)));
  add(r.finish());
  return all;
}

TEST(Reasoning, think_marks_at_every_cut) {
  struct Case {
    std::string_view prompt_end, text, reasoning, content;
  };
  const Case cases[] = {
      {"", "<think>\nso\n</think>\n\nYes", "\nso\n", "Yes"},
      {"<think>\n", "so</think>Yes", "so", "Yes"},
      {"", "Yes <think> is a word", "", "Yes <think> is a word"},
      {"", "<thin air", "", "<thin air"},
      {"", " \n<think>a</thin b</think>c</think>", "a</thin b", "c</think>"},
      {"", "<think>never ends</thi", "never ends", ""},  // a mark that was cut off is shown to nobody
      {"", "<think></think>", "", ""},
      {"", "<", "", "<"},
  };
  for (const Case& c : cases)
    for (std::size_t step = 1; step <= c.text.size(); ++step) {
      const auto parts = split(c.text, step, c.prompt_end);
      EXPECT_EQ(parts.reasoning, c.reasoning) << c.text << " by " << step;
      EXPECT_EQ(parts.content, c.content) << c.text << " by " << step;
    }
}

TEST(Reasoning, channels_are_control_tokens) {
  Reasoning r(Reasoning::Style::kChannels, "<|start|>assistant");
  Reasoning::Parts all;
  const std::pair<std::string_view, std::string_view> tokens[] = {
      {"", "<|channel|>"}, {"ana", ""},     {"lysis", ""},       {"", "<|message|>"},
      {"Hm", ""},          {"", "<|end|>"}, {"", "<|start|>"},   {"assistant", ""},
      {"", "<|channel|>"}, {"final", ""},   {"", "<|message|>"}, {"Yes", ""}};
  for (const auto& [text, control] : tokens) {
    const auto p = r.push(text, control);
    all.reasoning += p.reasoning, all.content += p.content;
  }
  EXPECT_EQ(all.reasoning, "Hm");
  EXPECT_EQ(all.content, "Yes");
}

TEST(Reasoning, templates_give_the_style_away) {
  EXPECT_EQ(Reasoning::style_of("{{ '<|channel|>final' }}"), Reasoning::Style::kChannels);
  EXPECT_EQ(Reasoning::style_of("split('</think>')"), Reasoning::Style::kThink);
  EXPECT_EQ(Reasoning::style_of("<|im_start|>"), Reasoning::Style::kNone);
  Reasoning none(Reasoning::Style::kNone, "");
  EXPECT_EQ(none.push("<think>a</think>").content, "<think>a</think>");
}

/// What may stand before an answer, as texts: accepted as a whole or not.
class BeforeAnswer : public testing::Test {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ =
      Tokenizer::from_hf_json(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
      "added_tokens": [{"id": 1, "content": "<|channel|>", "special": true}, {"id": 2, "content": "<|message|>", "special": true},
                       {"id": 3, "content": "<|end|>", "special": true}, {"id": 4, "content": "<|start|>", "special": true}]})")
          .value();
  bool accepts(Reasoning::Before before, std::string_view text) {
    GrammarComposer composer;
    const auto grammar = composer.finish(Reasoning::add_before(composer, before, *tokenizer_));
    if (!grammar) return ADD_FAILURE() << grammar.error().message, false;
    Matcher m(std::make_shared<Constraint>(*grammar, Vocabulary::of(*tokenizer_)));
    return m.advance(text) && m.can_end();
  }
};

TEST_F(BeforeAnswer, a_thought_and_blanks) {
  using enum Reasoning::Before;
  EXPECT_TRUE(accepts(kRestOfThought, "so it is</think>\n\n"));
  EXPECT_FALSE(accepts(kRestOfThought, "so it is"));
  EXPECT_FALSE(accepts(kRestOfThought, "so</think>\n{"));
  EXPECT_TRUE(accepts(kPerhapsThought, ""));
  EXPECT_TRUE(accepts(kPerhapsThought, "<think>\nwell</think>"));
  EXPECT_FALSE(accepts(kPerhapsThought, "well</think>"));
  EXPECT_TRUE(accepts(kNothing, ""));
  EXPECT_FALSE(accepts(kNothing, "<think></think>"));
}

TEST_F(BeforeAnswer, channels_by_their_tokens) {
  using enum Reasoning::Before;
  const std::string channel = control_mark("<|channel|>"), message = control_mark("<|message|>");
  const std::string thought =
      channel + "analysis" + message + "Hm <|end|>" + control_mark("<|end|>") + control_mark("<|start|>") + "assistant";
  const std::string final = channel + "final" + message;
  EXPECT_TRUE(accepts(kChannels, final));
  EXPECT_TRUE(accepts(kChannels, thought + final));
  EXPECT_TRUE(accepts(kChannels, thought + thought + final));
  EXPECT_FALSE(accepts(kChannels, thought));
  EXPECT_FALSE(accepts(kChannels, "<|channel|>final<|message|>"));
  EXPECT_FALSE(accepts(kChannels, channel + "other" + message));
}

TEST(Reasoning, the_end_of_the_prompt_says_what_comes_first) {
  using Before = Reasoning::Before;
  EXPECT_EQ(Reasoning::before_answer(Reasoning::Style::kNone, "<think>"), Before::kNothing);
  EXPECT_EQ(Reasoning::before_answer(Reasoning::Style::kThink, "assistant\n<think>\n"), Before::kRestOfThought);
  EXPECT_EQ(Reasoning::before_answer(Reasoning::Style::kThink, "<think>\n\n</think>\n\n"), Before::kNothing);
  EXPECT_EQ(Reasoning::before_answer(Reasoning::Style::kThink, "assistant\n"), Before::kPerhapsThought);
  EXPECT_EQ(Reasoning::before_answer(Reasoning::Style::kChannels, "assistant"), Before::kChannels);
}

}  // namespace
}  // namespace llorch::worker
