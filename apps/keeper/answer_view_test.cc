#include "keeper/answer_view.h"

#include <gtest/gtest.h>

namespace llorch::keeper {
namespace {

boost::json::object object(std::string_view text) { return boost::json::parse(text).as_object(); }

TEST(AnswerViewTest, ThoughtsAndContentOfEvents) {
  struct Case {
    const char *type, *data, *thought, *content;
  };
  for (const auto& [type, data, thought, content] : {
           Case{"token", R"({"t":"salt"})", "", "salt"},
           Case{"token", R"({"t":"salt","content":"salt"})", "", "salt"},
           Case{"token", R"({"t":"Hm","reasoning_content":"Hm","content":""})", "Hm", ""},
           Case{"token", R"({"t":"m</think>a","reasoning_content":"m","content":"a"})", "m", "a"},
           Case{"token", R"({"t":"</th","content":""})", "", ""},
           Case{"end", R"({"tokens_out":2})", "", ""},
           Case{"end", R"({"tokens_out":2,"content":"</th"})", "", "</th"},
           Case{"narration", R"({"content":"x","t":"y"})", "", ""},
       }) {
    const Piece piece = piece_of(type, object(data));
    EXPECT_EQ(piece.thought, thought) << data;
    EXPECT_EQ(piece.content, content) << data;
  }
}

TEST(AnswerViewTest, ACardHasALineForEachArgument) {
  EXPECT_EQ(call_card(object(R"({"id":"call_1","name":"weather","arguments":{"city":"Oslo","days":[1,2]}})")),
            "╭ weather\n│ city: \"Oslo\"\n│ days: [1,2]\n╰ call_1\n");
  EXPECT_EQ(call_card(object(R"({"id":"a","name":"clock","arguments":{}})")), "╭ clock\n╰ a\n");
  // Line breaks of the model make no lines of the card.
  EXPECT_EQ(call_card(object(R"({"id":"a","name":"x","arguments":{"a\nb":"c\n╰ d"}})")),
            "╭ x\n│ a\\nb: \"c\\n╰ d\"\n╰ a\n");
  EXPECT_EQ(call_card(object(R"({"id":"a","name":"x","arguments":"no object"})")), "╭ x\n│ \"no object\"\n╰ a\n");
}

TEST(AnswerViewTest, ALineOfJsonHasTheArgumentsAsAnObject) {
  const std::string line = R"({"id":"a","name":"x","arguments":{"city":"Oslo"}})";
  EXPECT_EQ(call_line(object(line)), line);
  EXPECT_EQ(call_line(object(R"({"id":"a","name":"x","arguments":"{\"city\":\"Oslo\"}"})")), line);
}

}  // namespace
}  // namespace llorch::keeper
