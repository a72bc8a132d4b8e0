// What a request of Ollama's means in Chat Completions.
#include "wire/ollama_api.h"

#include <gtest/gtest.h>

namespace llorch::wire {
namespace {

const Bounds kBounds{100, 2048, "m"};

boost::json::object object(const char* text) { return boost::json::parse(text).get_object(); }

TEST(OllamaApi, results_of_tools_find_their_calls) {
  const auto read = read_ollama_chat(object(R"({"model":"m","messages":[
      {"role":"user","content":"x"},
      {"role":"assistant","content":"","tool_calls":[{"function":{"name":"a","arguments":{"n":1}}},
                                                     {"function":{"name":"b","arguments":{}}}]},
      {"role":"tool","tool_name":"b","content":"of b"},
      {"role":"tool","content":"of a"}]})"),
                                     kBounds);
  ASSERT_TRUE(read) << read.error().violations.front().message;
  const auto& messages = read->messages;
  const auto& calls = messages[1].at("tool_calls").as_array();
  EXPECT_EQ(calls[0].at("function").at("arguments"), "{\"n\":1}");
  EXPECT_EQ(messages[2].at("tool_call_id"), calls[1].at("id"));
  EXPECT_EQ(messages[3].at("tool_call_id"), calls[0].at("id"));
}

TEST(OllamaApi, options_and_defaults) {
  auto read = read_ollama_chat(object(R"({"model":"m","messages":[{"role":"user","content":"x"}]})"), kBounds);
  ASSERT_TRUE(read);
  EXPECT_TRUE(read->stream);
  EXPECT_FALSE(read->max_tokens);
  read =
      read_ollama_generate(object(R"({"model":"m","prompt":"x","system":"s","stream":false,"keep_alive":0,"think":false,
      "options":{"num_predict":7,"seed":3,"num_ctx":9}})"),
                           kBounds);
  ASSERT_TRUE(read) << read.error().violations.front().message;
  EXPECT_FALSE(read->stream);
  EXPECT_EQ(read->max_tokens, 7);
  EXPECT_EQ(read->messages.size(), 2u);
  EXPECT_EQ(read->template_arguments.at("enable_thinking"), false);
  EXPECT_EQ(read->ignored, (std::vector<std::string>{"keep_alive", "options.num_ctx"}));
  read = read_ollama_chat(
      object(R"({"model":"m","messages":[{"role":"user","content":"x"}],"options":{"num_predict":-1}})"), kBounds);
  ASSERT_TRUE(read);
  EXPECT_FALSE(read->max_tokens);
}

TEST(OllamaApi, nothing_asked_is_a_load) {
  EXPECT_TRUE(read_ollama_chat(object(R"({"model":"m:latest","messages":[]})"), kBounds)->loads);
  EXPECT_TRUE(read_ollama_generate(object(R"({"model":"m"})"), kBounds)->loads);
  EXPECT_TRUE(read_ollama_generate(object(R"({"model":"m","prompt":"","system":"s"})"), kBounds)->loads);
  EXPECT_FALSE(read_ollama_generate(object(R"({"model":"m","prompt":"x"})"), kBounds)->loads);
  EXPECT_FALSE(read_ollama_chat(object(R"({"model":"m"})"), kBounds));
}

TEST(OllamaApi, options_that_name_nothing) {
  const auto read = read_ollama_generate(
      object(R"({"model":"m","prompt":"x","options":{"seed":-1,"repeat_penalty":0,"top_k":1000}})"), kBounds);
  ASSERT_TRUE(read) << read.error().violations.front().message;
  EXPECT_FALSE(read->seed);
  EXPECT_EQ(read->sampling.repetition_penalty, kBounds.sampling.repetition_penalty);
  EXPECT_EQ(read->sampling.top_k, kBounds.vocab);
  EXPECT_TRUE(read->ignored.empty());
}

TEST(OllamaApi, capabilities) {
  EXPECT_EQ(ollama_capabilities({"embedding"}), (boost::json::array{"embedding"}));
  EXPECT_EQ(ollama_capabilities({"rerank"}), boost::json::array());
  EXPECT_EQ(ollama_capabilities({"text-gen", "embedding"}), (boost::json::array{"completion"}));
  EXPECT_EQ(ollama_capabilities({"text-gen", "embedding", "tools", "thinking"}),
            (boost::json::array{"completion", "tools", "thinking"}));
}

TEST(OllamaApi, violations_name_what_the_client_wrote) {
  for (const auto& [body, field] :
       {std::pair(R"({"model":"m","messages":[{"role":"user","content":"x"}],"options":{"temperature":99}})",
                  "options.temperature"),
        {R"({"model":"m","messages":[{"role":"user","content":"x"}],"options":{"num_predict":"x"}})",
         "options.num_predict"},
        {R"({"model":"m","messages":[{"content":"x"}]})", "messages[0]"},
        {R"({"model":"m","messages":[{"role":"user","content":7}]})", "messages[0].content"},
        {R"({"model":"m","messages":[{"role":"user","content":[{"type":"image"}]}]})", "messages[0].content"},
        {R"({"model":"m","messages":[{"role":"user","content":"x"}],"format":7})", "format"},
        {R"({"model":"m","messages":[{"role":"user","content":"x"}],"think":7})", "think"}}) {
    const auto read = read_ollama_chat(object(body), kBounds);
    ASSERT_FALSE(read) << body;
    EXPECT_EQ(read.error().violations.front().field, field);
  }
  EXPECT_FALSE(read_ollama_generate(object(R"({"model":"m","prompt":"x","context":[1,2]})"), kBounds));
}

TEST(OllamaApi, inputs_of_embeddings_are_cut_unless_told_otherwise) {
  for (const auto& [body, cuts] : {std::pair(R"({"model":"m:latest","input":["x","y"]})", true),
                                   {R"({"model":"m","input":"x","truncate":true,"keep_alive":"5m"})", true},
                                   {R"({"model":"m","input":"x","truncate":false})", false}}) {
    const auto read = read_ollama_embed(object(body), kBounds);
    ASSERT_TRUE(read) << body;
    EXPECT_EQ(read->truncate, cuts);
  }
  EXPECT_FALSE(read_embedding(object(R"({"model":"m","input":"x"})"), kBounds)->truncate);
  EXPECT_EQ(read_ollama_embeddings(object(R"({"model":"m","prompt":"x"})"), kBounds)->prompts.size(), 1u);
  for (const char* body : {R"({"model":"m"})", R"({"model":"m","prompt":["x"]})", R"({"model":"m","input":"x"})"}) {
    const auto read = read_ollama_embeddings(object(body), kBounds);
    ASSERT_FALSE(read) << body;
    EXPECT_EQ(read.error().violations.front().field, "prompt");
    EXPECT_TRUE(read.error().violations.front().message.starts_with("prompt"));
  }
}

}  // namespace
}  // namespace llorch::wire
