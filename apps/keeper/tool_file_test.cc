#include "keeper/tool_file.h"

#include <gtest/gtest.h>

#include "format/json.h"

namespace llorch::keeper {
namespace {

std::string tools_of(std::string_view text) {
  const auto tools = parse_tools(text, "f.json");
  if (tools) return boost::json::serialize(*tools);
  EXPECT_EQ(tools.error().code, ErrorCode::kInvalidRequest);
  return tools.error().message;
}

TEST(ToolFileTest, TakesListsSingleToolsAndBareFunctions) {
  const std::string tool = R"({"type":"function","function":{"name":"weather","parameters":{"type":"object"}}})";
  const std::string bare = R"({"name":"weather","parameters":{"type":"object"}})";
  const std::string unnamed_type = R"({"function":{"name":"clock"}})";
  EXPECT_EQ(tools_of("[" + tool + "]"), "[" + tool + "]");
  EXPECT_EQ(tools_of(tool), "[" + tool + "]");
  EXPECT_EQ(tools_of(bare), "[" + tool + "]");
  EXPECT_EQ(tools_of("[" + bare + "," + tool + "]"), "[" + tool + "," + tool + "]");
  EXPECT_EQ(tools_of(unnamed_type), R"([{"function":{"name":"clock"},"type":"function"}])");
  EXPECT_EQ(tools_of(R"({"type":"function","name":"clock"})"), R"([{"type":"function","function":{"name":"clock"}}])");
}

TEST(ToolFileTest, SaysWhatIsWrongAndWhere) {
  const std::string good = R"({"name":"clock"})";
  EXPECT_EQ(tools_of("3"), "f.json: must be a list of tools, or one tool");
  EXPECT_EQ(tools_of("[]"), "f.json: there is no tool in it");
  EXPECT_EQ(tools_of("[" + good + ", 3]"), "f.json: [1]: must be an object");
  EXPECT_EQ(tools_of("[" + good + ", {}]"), "f.json: [1].name: the function's name is missing");
  EXPECT_EQ(tools_of(R"([{"type":"function","function":{"name":7}}])"),
            "f.json: [0].function.name: the function's name is missing");
  EXPECT_EQ(tools_of(R"([{"type":"function","function":[]}])"), "f.json: [0].function: must be an object");
  EXPECT_EQ(tools_of(R"({"name":"x","parameters":[]})"),
            "f.json: .parameters: must be a JSON schema, which is an object");
  EXPECT_EQ(tools_of(R"([{"type":"web_search"}])"),
            "f.json: [0].type: 'web_search' is no type of tool, only function is");
  EXPECT_EQ(tools_of(R"([{"name":"x"},{"name":"y","parameters":{"type":"object","type":"object"}}])"),
            "f.json: [1].parameters.type: the key stands twice in one object");
  EXPECT_TRUE(tools_of("[\n{\"name\": \"x\"},\n{,}]").ends_with("(line 3)")) << tools_of("[\n{\"name\": \"x\"},\n{,}]");
  EXPECT_TRUE(tools_of("[").starts_with("f.json is not valid JSON")) << tools_of("[");
}

TEST(ToolFileTest, AChoiceIsAWordOrTheNameOfATool) {
  const auto tools = parse_tools(R"([{"name":"clock"},{"name":"weather"}])", "f").value();
  for (const char* word : {"auto", "required", "none"}) EXPECT_EQ(tool_choice(word, tools).value(), word);
  EXPECT_EQ(boost::json::serialize(tool_choice("weather", tools).value()),
            R"({"type":"function","function":{"name":"weather"}})");
  const auto bad = tool_choice("rain", tools);
  ASSERT_FALSE(bad);
  EXPECT_TRUE(bad.error().message.contains("rain") && bad.error().message.ends_with("clock, weather"))
      << bad.error().message;
}

}  // namespace
}  // namespace llorch::keeper
