// The end of streams that are passed on, and how many tokens they bring.
#include "queen/answer_stream.h"

#include <gtest/gtest.h>

namespace llorch::queen {
namespace {

std::int64_t tokens(AnswerStream& stream, std::string_view text, std::size_t piece) {
  std::int64_t sum = 0;
  for (std::size_t at = 0; at < text.size(); at += piece) sum += stream.add(text.substr(at, piece));
  return sum;
}

constexpr std::string_view kChat =
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"},\"finish_reason\":null}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"b \\\"finish_reason\\\":null\"},\"finish_reason\":null}]}\n\n"
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

TEST(AnswerStream, events_that_say_something_are_counted_however_they_are_cut) {
  for (const std::size_t piece : {1, 2, 7, 64, 4096}) {
    AnswerStream stream;
    EXPECT_EQ(tokens(stream, kChat, piece), 2) << piece;
    EXPECT_FALSE(stream.whole());
    EXPECT_EQ(tokens(stream, "data: [DONE]\n\n", piece), 0);
    EXPECT_TRUE(stream.whole());
    EXPECT_EQ(stream.correction(), 0);
  }
}

TEST(AnswerStream, what_the_answer_tells_counts) {
  AnswerStream stream;
  stream.add(kChat);
  stream.add("data: {\"choices\":[],\"usage\":{\"completion_tokens\":5,\"completion_tokens_details\":{}}}\n\n");
  EXPECT_EQ(stream.correction(), 0) << "it is not over";
  stream.add("data: [DONE]\n\n");
  EXPECT_EQ(stream.correction(), 3);
  AnswerStream lines(true);
  EXPECT_EQ(tokens(lines, "{\"response\":\"a\",\"done\":false}\n", 3), 1);
  lines.add("{\"response\":\"\",\"done\":true,\"eval_count\":9}\n");
  EXPECT_EQ(lines.correction(), 8);
}

TEST(AnswerStream, an_end_within_an_answer_is_none) {
  AnswerStream lines(true);
  lines.add("{\"message\":{\"tool_calls\":[{\"function\":{\"arguments\":{\"done\":true}}}]},\"done\":false}\n");
  EXPECT_FALSE(lines.whole());
  lines.add("{\"done\":true}\n");
  EXPECT_TRUE(lines.whole());
  AnswerStream events;
  events.add("data: {\"choices\":[{\"delta\":{\"content\":\"data: [DONE]\"}}]}\n\n");
  EXPECT_FALSE(events.whole());
}

TEST(AnswerStream, tokens_of_whole_answers) {
  const auto of = [](const char* text) { return tokens_of(boost::json::parse(text).get_object()); };
  EXPECT_EQ(of(R"({"usage":{"completion_tokens":3}})"), 3);
  EXPECT_EQ(of(R"({"usage":{"output_tokens":4}})"), 4);
  EXPECT_EQ(of(R"({"eval_count":5})"), 5);
  EXPECT_EQ(of(R"({"usage":{"prompt_tokens":3}})"), std::nullopt);
}

}  // namespace
}  // namespace llorch::queen
