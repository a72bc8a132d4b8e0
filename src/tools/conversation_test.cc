// Histories reach templates in the way that they want them.
#include "tools/conversation.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace llorch::tools {
namespace {

namespace bj = boost::json;

bj::array history() {
  return bj::parse(R"([
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": null, "tool_calls": [
      {"id": "call_0123456789", "type": "function", "function": {"name": "f", "arguments": "{\"a\": [1, \"x\"]}"}},
      {"id": "abcdefghi", "type": "function", "function": {"name": "g", "arguments": {"b": 2}}}]},
    {"role": "tool", "tool_call_id": "abcdefghi", "content": "2"},
    {"role": "tool", "tool_call_id": "call_0123456789", "name": "own", "content": "1"}])")
      .as_array();
}

ToolFormat some_format() {
  ToolFormat f;
  f.arguments = ToolFormat::Arguments::kJson;
  f.parallel = f.takes_answers = true;
  return f;
}

const bj::value& at(const bj::array& messages, const char* pointer) {
  static bj::value whole;
  whole = messages;
  return whole.at_pointer(pointer);
}

TEST(Conversation, arguments_as_the_template_wants_them) {
  ToolFormat f = some_format();
  const auto objects = prepare_history(f, history());
  ASSERT_TRUE(objects);
  EXPECT_EQ(at(*objects, "/1/tool_calls/0/function/arguments"), bj::parse(R"({"a": [1, "x"]})"));
  EXPECT_EQ(at(*objects, "/1/tool_calls/1/function/arguments"), bj::parse(R"({"b": 2})"));
  EXPECT_EQ(at(*objects, "/1/content"), "");
  EXPECT_EQ(at(*objects, "/1/tool_calls/0/id"), "call_0123456789");
  EXPECT_EQ(at(*objects, "/2/name"), "g");    // found by the call's id
  EXPECT_EQ(at(*objects, "/3/name"), "own");  // the client's own stays
  f.arguments_as_text = true, f.content = ToolFormat::Content::kNull;
  const auto texts = prepare_history(f, history());
  ASSERT_TRUE(texts);
  EXPECT_EQ(at(*texts, "/1/tool_calls/0/function/arguments"), "{\"a\": [1, \"x\"]}");
  EXPECT_EQ(at(*texts, "/1/tool_calls/1/function/arguments"), "{\"b\":2}");
  EXPECT_TRUE(at(*texts, "/1/content").is_null());
}

TEST(Conversation, ids_of_nine_letters) {
  ToolFormat f = some_format();
  f.short_ids = true, f.content = ToolFormat::Content::kAbsent;
  const auto out = prepare_history(f, history());
  ASSERT_TRUE(out);
  const std::string id(at(*out, "/1/tool_calls/0/id").as_string());
  EXPECT_EQ(id.size(), 9u);
  EXPECT_TRUE(std::all_of(id.begin(), id.end(), [](unsigned char c) { return std::isalnum(c); }));
  EXPECT_EQ(at(*out, "/3/tool_call_id"), bj::value(id));
  EXPECT_EQ(at(*out, "/1/tool_calls/1/id"), "abcdefghi");  // fits as it is
  EXPECT_EQ((*out)[1].as_object().if_contains("content"), nullptr);
}

TEST(Conversation, refusals_name_the_message) {
  const auto refused = [](const ToolFormat& f, const bj::array& messages) {
    const auto out = prepare_history(f, messages);
    return out ? std::string() : out.error().message;
  };
  ToolFormat none;
  none.reason = "it shows none";
  EXPECT_TRUE(refused(none, history()).contains("messages[1].tool_calls"));
  EXPECT_TRUE(refused(none, history()).contains("it shows none"));
  ToolFormat one = some_format();
  one.parallel = false;
  EXPECT_TRUE(refused(one, history()).contains("messages[1].tool_calls: the chat template takes one call"));
  ToolFormat mute = some_format();
  mute.takes_answers = false;
  EXPECT_TRUE(refused(mute, history()).contains("messages[2].role"));
  for (const auto* wrong : {"[1]", "5", "\"{\\\"a\\\": \"", "\"[]\""}) {
    const auto messages =
        bj::parse(std::string(R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": )") +
                  wrong + "}}]}]");
    EXPECT_TRUE(refused(some_format(), messages.as_array()).contains("messages[0].tool_calls[0].function.arguments"))
        << wrong;
  }
  EXPECT_TRUE(refused(some_format(), bj::parse(R"([{"role": "assistant", "tool_calls": [{}]}])").as_array())
                  .contains("messages[0].tool_calls[0].function.name"));
}

}  // namespace
}  // namespace llorch::tools
