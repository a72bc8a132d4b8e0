// Thoughts and answers are parted the same way however the text is cut into tokens (J-60).
#include "worker/reasoning.h"

#include <gtest/gtest.h>

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
      {"", "<think>never ends</thi", "never ends</thi", ""},
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

}  // namespace
}  // namespace llorch::worker
