#include "engine/thought.h"

#include <gtest/gtest.h>

#include <vector>

namespace llorch {
namespace {

struct Step {
  const char* token;
  bool hidden;  // before it
};

/// Holds `hidden` to the steps; how many tokens came before the thought was due, -1 for never.
int walk(const ThoughtLimit& limit, const std::vector<Step>& steps) {
  ThoughtWatch watch(limit);
  int due = -1, count = 0;
  for (const Step& s : steps) {
    EXPECT_EQ(watch.hidden(), s.hidden) << count << ' ' << s.token;
    watch.take(s.token), ++count;
    if (due < 0 && watch.due()) due = count;
  }
  return due;
}

TEST(ThoughtWatch, a_thought_that_the_model_begins) {
  const ThoughtLimit limit{
      .tokens = 2, .open = "<think>", .close = "</think>", .answer = {}, .begun = false, .ending = {}};
  EXPECT_EQ(walk(limit, {{"<think>", false}, {"a", true}, {"</think>", true}, {"b", false}, {"c", false}}), -1);
  EXPECT_EQ(walk(limit, {{"\n", false}, {"<think>", false}, {"a", true}, {"b", true}}), 4);
  EXPECT_EQ(walk(limit, {{"Hm", false}, {"<think>", false}, {"a", false}, {"b", false}}), -1)
      << "only at the beginning";
}

TEST(ThoughtWatch, marks_that_several_tokens_spell) {
  const ThoughtLimit limit{.tokens = ThoughtLimit::kNoLimit,
                           .open = "<think>",
                           .close = "</think>",
                           .answer = {},
                           .begun = true,
                           .ending = {}};
  EXPECT_EQ(walk(limit, {{"a", true}, {"</", true}, {"thin", true}, {"k>", true}, {"b", false}}), -1);
}

TEST(ThoughtWatch, no_tokens_at_all) {
  const ThoughtLimit limit{
      .tokens = 0, .open = "<think>", .close = "</think>", .answer = {}, .begun = false, .ending = {}};
  EXPECT_EQ(walk(limit, {{"<think>", false}, {"\n", false}}), 1);
}

TEST(ThoughtWatch, with_channels_the_answer_is_the_last_one) {
  const ThoughtLimit limit{.tokens = 3,
                           .open = "<|channel|>analysis<|message|>",
                           .close = "<|end|>",
                           .answer = "<|channel|>final<|message|>",
                           .begun = false,
                           .ending = {}};
  const std::vector<Step> whole{{"<|channel|>", true}, {"analysis", true},    {"<|message|>", true},
                                {"Hm", true},          {"<|end|>", true},     {"<|start|>", true},
                                {"assistant", true},   {"<|channel|>", true}, {"final", true},
                                {"<|message|>", true}, {"Yes", false},        {"final", false}};
  EXPECT_EQ(walk(limit, whole), -1);
  EXPECT_EQ(
      walk(limit,
           {{"<|channel|>", true}, {"analysis", true}, {"<|message|>", true}, {"a", true}, {"b", true}, {"c", true}}),
      6);
  EXPECT_EQ(walk(limit, {{"<|channel|>", true}, {"final", true}, {"<|message|>", true}, {"Yes", false}}), -1);
}

}  // namespace
}  // namespace llorch
