// The calls that templates write come back, at every split; text that only looks like a call stays text.
#include "tools/parser.h"

#include <gtest/gtest.h>

#include <map>

#include "tools/test_templates.h"

namespace llorch::tools {
namespace {

void expect_same_at_every_split(const TestTemplate& t, const std::string& text, const Items& whole) {
  for (std::size_t i = 0; i <= text.size(); ++i) {
    ToolCallParser parser(t.format, t.declared);
    Items items = parser.push(std::string_view(text).substr(0, i));
    append(items, parser.push(std::string_view(text).substr(i)));
    append(items, parser.finish());
    ASSERT_EQ(items == whole, true) << "split at " << i << " of " << text;
  }
  ToolCallParser parser(t.format, t.declared);
  Items items;
  for (const char c : text) append(items, parser.push({&c, 1}));
  append(items, parser.finish());
  ASSERT_EQ(items == whole, true) << "byte by byte: " << text;
}

/// All test calls through one template; how many messages.
int expect_calls_back(const std::string& name, const TestTemplate& t) {
  int messages = 0;
  for (const TestCalls& calls : test_calls()) {
    if (calls.size() > 1 && !t.format.parallel) continue;
    const auto text = t.own_part(calls);
    if (!text) {
      ADD_FAILURE() << name << ": " << text.error().message;
      continue;
    }
    SCOPED_TRACE(name + ": " + *text);
    const Items items = parse_all(t.format, t.declared, *text);
    const Taken got = taken(items);
    EXPECT_EQ(shown(got.calls), shown(calls));
    EXPECT_TRUE(got.complete && got.valid);
    for (const std::string& no :
         {t.format.begin(), std::string("get_weather"), std::string("city"), std::string("Oslo")})
      EXPECT_FALSE(got.text.contains(no)) << "leaked: " << got.text;
    if (!kSanitized || messages % 36 == 0) expect_same_at_every_split(t, *text, items);
    ++messages;
  }
  return messages;
}

TEST(Parser, calls_of_published_templates) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  int messages = 0, templates = 0;
  for (const auto& [name, source] : published_templates()) {
    const TestTemplate& t = test_template(source);
    if (t.format.none() || name == "Kimi-K2-Thinking") continue;  // that one renders in no sandbox
    ++templates;
    messages += expect_calls_back(name, t);
  }
  EXPECT_EQ(templates, 24);
  std::printf("parser: %d messages of %d templates, each at every split\n", messages, templates);
}

TEST(Parser, renamed_markers) {
  // Nothing here may know how markers were spelled.
  LLORCH_NEED_TEST_DATA(folder, "templates");
  EXPECT_GE(renamings().size(), 10u);
  for (const auto& [name, renames] : renamings()) {
    const TestTemplate& t = test_template(renamed_template(name, renames));
    EXPECT_FALSE(t.format.none()) << name << ": " << t.format.reason;
    std::string texts = t.format.open + t.format.between + t.format.close + t.format.parameters.next +
                        t.format.parameters.assign_text + t.format.parameters.close_text;
    for (const Piece& piece : t.format.call) texts += piece.text;
    for (const auto& [from, to] : renames) EXPECT_FALSE(texts.contains(from)) << name << " still has " << from;
    EXPECT_GE(expect_calls_back(name, t), 8) << name;
  }
}

std::string text_after(const TestTemplate& t, std::string_view text) {
  const Items items = parse_all(t.format, t.declared, text);
  const Taken got = taken(items);
  EXPECT_TRUE(got.calls.empty()) << text;
  expect_same_at_every_split(t, std::string(text), items);
  return got.text;
}

TEST(Parser, what_looks_like_a_call_is_text) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  for (const auto& [name, source] : published_templates()) {
    SCOPED_TRACE(name);
    const TestTemplate& t = test_template(source);
    if (t.format.none()) {
      EXPECT_EQ(text_after(t, "any <tool_call>{\"name\": \"now\"} \n"), "any <tool_call>{\"name\": \"now\"} \n");
      continue;
    }
    const std::string begin = t.format.begin();
    for (const std::string& text : std::vector<std::string>{
             "Write " + begin, begin + begin + " so it begins", " " + begin.substr(0, begin.size() / 2),
             begin + " {\"name\": 5}\n\n", "a {\"name\": \"now\", \"x\": {}} <b> [c] \n d", std::string()})
      EXPECT_EQ(text_after(t, text), text);
    if (name == "Kimi-K2-Thinking") continue;
    // A tool that nobody declared: the whole call is text.
    std::string other = t.own_part({{"get_weather", parsed_object(R"({"city": "x"})")}}).value();
    for (std::size_t at; (at = other.find("get_weather")) != std::string::npos;) other.replace(at, 11, "get_wealth");
    EXPECT_EQ(text_after(t, other), other);
  }
}

TestTemplate made_up(const std::string& call) {
  return TestTemplate("{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}{% for c in m.tool_calls or [] %}" +
                      call + "{% endfor %}</s>{% endfor %}");
}
const std::string kTagged =
    "<call>{{ c.function.name }}{% for k, v in c.function.arguments | items %}<{{ k }}>{{ v if v is string else v | "
    "tojson }}</arg>{% endfor %}</call>";

TEST(Parser, only_control_tokens_count_where_markers_are_some) {
  const TestTemplate t = made_up("<call>{{ c.function.name }}<with>{{ c.function.arguments | tojson }}</call>");
  const std::vector<std::string> controls = {"<call>", "<with>", "</call>"};
  const std::string spelled = "<call>now<with>{}</call>";
  ToolCallParser parser(t.format, t.declared, controls);
  Items items = parser.push(spelled + " ");
  append(items, parser.push({}, "<call>"));
  append(items, parser.push("now"));
  EXPECT_FALSE(parser.in_call());
  append(items, parser.push({}, "<with>"));
  append(items, parser.push("{"));
  EXPECT_TRUE(parser.in_call());
  append(items, parser.push("\"a\": \"</call>\"}"));
  append(items, parser.push({}, "</call>"));
  append(items, parser.push("x"));
  append(items, parser.push({}, "<other>"));
  append(items, parser.push("y"));
  append(items, parser.push({}, "<call>"));
  append(items, parser.finish());
  using Kind = Item::Kind;
  const Items want = {{Kind::kText, spelled, {}, {}, 0, true},
                      {Kind::kCallBegin, {}, "now", {}, 0, true},
                      {Kind::kArguments, "{\"a\": \"</call>\"}", {}, {}, 0, true},
                      {Kind::kCallEnd, {}, {}, {}, 0, true},
                      {Kind::kText, "x", {}, {}, 0, true},
                      {Kind::kControl, "<other>", {}, {}, 0, true},
                      {Kind::kText, "y", {}, {}, 0, true},
                      {Kind::kControl, "<call>", {}, {}, 0, true}};
  EXPECT_EQ(items == want, true);
}

TEST(Parser, quotes_that_are_control_tokens) {
  const TestTemplate t(
      made_up("<do>{{ c.function.name }}{{ '{' }}{% for k, v in c.function.arguments | items %}{{ k }}:"
              "{% if v is string %}<q>{{ v }}<q>{% else %}{{ v }}{% endif %}{{ '' if loop.last else ',' }}"
              "{% endfor %}{{ '}' }}<od>"));
  ASSERT_EQ(t.format.parameters.values, Parameters::Values::kNotation);
  ToolCallParser parser(t.format, t.declared, {"<do>", "<od>", "<q>"});
  Items items = parser.push({}, "<do>");
  append(items, parser.push("get_weather{days:3,city:"));
  append(items, parser.push({}, "<q>"));
  append(items, parser.push("a<q>, \"b\"}"));
  append(items, parser.push({}, "<q>"));
  append(items, parser.push("}"));
  append(items, parser.push({}, "<od>"));
  append(items, parser.finish());
  EXPECT_EQ(shown(taken(items).calls),
            shown({{"get_weather", parsed_object(R"({"days": 3, "city": "a<q>, \"b\"}"})")}}));
}

TEST(Parser, calls_that_break_off) {
  const TestTemplate json = made_up("<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>");
  const TestTemplate tagged = made_up(kTagged);
  const auto parse = [](const TestTemplate& t, std::string_view text) {
    const Items items = parse_all(t.format, t.declared, text);
    expect_same_at_every_split(t, std::string(text), items);
    return taken(items);
  };
  Taken got = parse(json, "<call>now {\"a\": [1, 2");
  EXPECT_EQ(got.calls.size(), 1u);
  EXPECT_FALSE(got.complete);
  got = parse(json, "<call>now {\"a\": oops} and <call>now {}</call>");
  EXPECT_EQ(got.calls.size(), 2u);
  EXPECT_FALSE(got.complete);
  EXPECT_EQ(got.text, "oops} and");
  got = parse(json, "<call>now {}");  // whole, and only its end is missing
  EXPECT_TRUE(got.complete);
  got = parse(json, "<call>now {} \n So.");
  EXPECT_TRUE(got.complete);
  EXPECT_EQ(got.text, "So.");
  got = parse(tagged, "<call>get_weather<city>Os");
  EXPECT_FALSE(got.complete);
  EXPECT_EQ(got.calls.size(), 1u);
  got = parse(tagged, "<call>get_weather<city>O</arg> nothing");
  EXPECT_FALSE(got.complete);
  got = parse(tagged, "Look:\n <call> get_weather\n<city>O</ar g></arg>\n<days> 4 </arg>\n</call>\n\nDone");
  EXPECT_TRUE(got.complete && got.valid);
  EXPECT_EQ(shown(got.calls), shown({{"get_weather", parsed_object(R"({"city": "O</ar g>", "days": 4})")}}));
  EXPECT_EQ(got.text, "Look:\n\nDone");
}

TEST(Parser, values_have_the_declared_types) {
  const TestTemplate t = made_up(kTagged);
  const auto value = [&](const std::string& key, const std::string& text) {
    const Taken got = taken(parse_all(
        t.format, t.declared,
        "<call>" + std::string(key == "city" || key == "days" || key == "exact" ? "get_weather" : "store-note") + "<" +
            key + ">" + text + "</arg></call>"));
    EXPECT_TRUE(got.complete && got.valid && got.calls.size() == 1);
    return got.calls.size() == 1 ? boost::json::serialize(got.calls[0].arguments.at(key)) : "";
  };
  EXPECT_EQ(value("city", "5"), "\"5\"");
  EXPECT_EQ(value("city", " true\n"), "\" true\\n\"");
  EXPECT_EQ(value("days", "5"), "5");
  EXPECT_EQ(value("days", "123456789012345678901234567890"), "1.2345678901234568E29");
  EXPECT_EQ(value("days", "five"), "\"five\"");  // no integer: the schema's check will say so
  EXPECT_EQ(value("exact", "True"), "true");
  EXPECT_EQ(value("hint", "None"), "null");
  EXPECT_EQ(value("hint", "null"), "null");
  EXPECT_EQ(value("hint", "5"), "\"5\"");
  EXPECT_EQ(value("tags", "['a', \"b'c\", 'd\\n']"), R"(["a","b'c","d\n"])");
  EXPECT_EQ(value("unknown", "7"), "7");
  EXPECT_EQ(value("unknown", "seven"), "\"seven\"");
}

TEST(Parser, families) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  for (const auto& [name, source] : published_templates()) {
    const TestTemplate& t = test_template(source);
    const auto calls = [&](std::string_view text) { return shown(taken(parse_all(t.format, t.declared, text)).calls); };
    if (name == "openai-gpt-oss-120b") {
      const std::string want = shown({{"get_weather", parsed_object(R"({"city": "x"})")}});
      // As the format's makers describe it, in either order, with and without the content's type.
      for (const std::string_view text :
           {"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"x\"}<|call|>",
            " to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{\"city\": \"x\"}<|call|>",
            "<|channel|>commentary to=functions.get_weather<|message|>{\"city\": \"x\"}<|call|>",
            "<|channel|>analysis to=functions.get_weather json<|message|>{\"city\": \"x\"}"})
        EXPECT_EQ(calls(text), want) << text;
      EXPECT_EQ(t.format.family, "gpt_oss");
      for (const char* control : {"<|constrain|>", "<|channel|>", "<|message|>", "<|call|>"})
        EXPECT_TRUE(t.format.holds(control)) << control;
      EXPECT_FALSE(t.format.holds("<|start|>"));
    }
    if (name == "google-gemma-4-31B-it") {
      EXPECT_TRUE(t.format.holds("<|\"|>"));
      EXPECT_TRUE(t.format.holds("<tool_call|>"));
    }
    if (name == "Kimi-K2-Thinking") {
      EXPECT_EQ(calls("So:<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}"
                      "<|tool_call_end|><|tool_call_begin|>functions.get_weather:1<|tool_call_argument_begin|>"
                      "{\"city\": \"y\"}<|tool_call_end|><|tool_calls_section_end|>"),
                shown({{"now", {}}, {"get_weather", parsed_object(R"({"city": "y"})")}}));
      EXPECT_EQ(t.format.family, "kimi_k2");
    }
  }
}

}  // namespace
}  // namespace llorch::tools
