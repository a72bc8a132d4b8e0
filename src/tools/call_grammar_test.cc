// Grammars of calls accept what the templates write, and nothing else.
#include "tools/call_grammar.h"

#include <gtest/gtest.h>

#include <chrono>

#include "grammar/matcher.h"
#include "grammar/vocabulary.h"
#include "tools/test_templates.h"

namespace llorch::tools {
namespace {

class Accepts {
 public:
  explicit Accepts(const Grammar& grammar)
      : constraint_(std::make_shared<Constraint>(
            grammar, std::make_shared<const Vocabulary>(std::vector<std::string>(), std::vector<std::uint32_t>()))) {}
  bool operator()(std::string_view text) const {
    Matcher matcher(constraint_);
    return matcher.advance(text) && matcher.can_end();
  }

 private:
  std::shared_ptr<Constraint> constraint_;
};

/// What the model writes, without what the template puts around it (thoughts, the end of the message).
std::string block_of(const TestTemplate& t, const TestCalls& calls) {
  std::string part = t.own_part(calls).value();
  part.erase(0, std::min(part.find(t.format.begin()), part.size()));
  const Pieces tail = t.format.tail();
  if (tail.empty()) return part;
  const std::string end = tail.back().text.substr(0, tail.back().text.find_last_not_of(" \n") + 1);
  const std::size_t at = part.rfind(end);
  EXPECT_NE(at, std::string::npos) << part;
  return part.substr(0, at + end.size());
}

Accepts grammar_of(const TestTemplate& t, const CallGrammarOptions& options = {}) {
  const auto grammar = call_grammar(t.format, t.declared, options);
  EXPECT_TRUE(grammar) << grammar.error().error().message;
  return Accepts(grammar ? *grammar : *Grammar::from_regex("nothing"));
}

/// Every published template with a format that renders, and those with other markers.
template<class F>
void each_template(const F& f) {
  for (const auto& [name, source] : published_templates()) {
    const TestTemplate& t = test_template(source);
    if (t.format.none() || name == "Kimi-K2-Thinking") continue;
    SCOPED_TRACE(name);
    f(name, t);
  }
  for (const auto& [name, renames] : renamings()) {
    SCOPED_TRACE(name + ", renamed");
    f(name, test_template(renamed_template(name, renames)));
  }
}

bool has_containers(const TestCalls& calls) {
  for (const TestCall& call : calls)
    for (const auto& pair : call.arguments)
      if (pair.value().is_structured()) return true;
  return false;
}

TEST(CallGrammar, accepts_what_published_templates_write) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  int accepted = 0, as_python = 0;
  each_template([&](const std::string&, const TestTemplate& t) {
    const Accepts accepts = grammar_of(t);
    for (const TestCalls& calls : test_calls()) {
      if (calls.size() > 1 && !t.format.parallel) continue;
      const std::string text = block_of(t, calls);
      if (t.format.parameters.python_containers && has_containers(calls)) {  // the grammar makes JSON of them
        ++as_python;
        continue;
      }
      EXPECT_TRUE(accepts(text)) << text;
      EXPECT_TRUE(accepts(t.format.lead + text)) << text;
      for (const std::size_t cut : {text.size() - 1, text.size() / 2, std::size_t{0}})
        EXPECT_FALSE(accepts(std::string_view(text).substr(0, cut)) &&
                     text.substr(cut).find_first_not_of(" \n") != std::string::npos)
            << text.substr(0, cut);
      ++accepted;
    }
  });
  EXPECT_EQ(as_python, 2 * 3);  // of one template, under both spellings
  std::printf("call grammar: %d messages accepted\n", accepted);
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << text;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(CallGrammar, rejects_what_schemas_forbid) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  each_template([&](const std::string&, const TestTemplate& t) {
    const Accepts accepts = grammar_of(t);
    const auto written = [&](const char* arguments) {
      return block_of(t, {{"get_weather", parsed_object(arguments)}});
    };
    EXPECT_TRUE(accepts(written(R"({"city": "x", "days": 3})")));
    EXPECT_FALSE(accepts(written(R"({"city": "x", "days": "many"})")));  // wrong types
    EXPECT_FALSE(accepts(written(R"({"city": "x", "days": 3.5})")));
    EXPECT_FALSE(accepts(written(R"({"city": "x", "exact": 1})")));
    EXPECT_FALSE(accepts(written(R"({"city": "x", "days": null})")));
    EXPECT_FALSE(accepts(written(R"({"days": 3})")));  // `city` is required
    EXPECT_FALSE(accepts(written("{}")));
    EXPECT_FALSE(accepts(block_of(t, {{"get_wealth", parsed_object(R"({"city": "x"})")}})));  // never declared
    EXPECT_FALSE(accepts(block_of(t, {{"nowhere", {}}})));
    EXPECT_FALSE(accepts(replaced(written(R"({"city": "x"})"), "get_weather", "get_weathe")));
    const auto& p = t.format.parameters;
    if (t.format.arguments != ToolFormat::Arguments::kParameters || p.values == Parameters::Values::kJson) {
      EXPECT_FALSE(accepts(written(R"({"city": 5})")));
      return;
    }
    EXPECT_FALSE(accepts(written(R"({"city": "x", "unknown": 1})")));
    // What ends a value cannot be in it.
    const std::string end = p.close_text.substr(p.close_text.find_first_not_of('\n'));
    EXPECT_TRUE(accepts(replaced(written(R"({"city": "marked"})"), "marked", end.substr(0, end.size() - 1) + " ")));
    EXPECT_FALSE(accepts(replaced(written(R"({"city": "marked"})"), "marked", "a" + end + "b")));
  });
}

TEST(CallGrammar, chosen_tools_and_numbers_of_calls) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  each_template([&](const std::string&, const TestTemplate& t) {
    const TestCalls now = {{"now", {}}}, weather = {{"get_weather", parsed_object(R"({"city": "x"})")}};
    CallGrammarOptions options;
    options.names = {"now"};
    const Accepts only_now = grammar_of(t, options);
    EXPECT_TRUE(only_now(block_of(t, now)));
    EXPECT_FALSE(only_now(block_of(t, weather)));
    options.names = {"now", "get_weather"}, options.parallel = false;
    const Accepts one = grammar_of(t, options);
    EXPECT_TRUE(one(block_of(t, weather)));
    EXPECT_FALSE(one(block_of(t, {{"store-note", parsed_object(R"({"text": ""})")}})));
    options.parallel = true, options.start = CallGrammarOptions::Start::kBehindMarker;
    const Accepts behind = grammar_of(t, options);
    const CallMarker marker = call_marker(t.format, {});
    EXPECT_FALSE(marker.control);
    EXPECT_FALSE(marker.text.empty());
    const std::string text = block_of(t, weather);
    ASSERT_TRUE(text.starts_with(marker.text)) << text;
    EXPECT_TRUE(behind(text.substr(marker.text.size())));
    EXPECT_FALSE(behind(text));
    if (!t.format.parallel) return;
    const std::string two = block_of(t, {now[0], weather[0]});
    EXPECT_TRUE(behind(two.substr(marker.text.size())));
    EXPECT_FALSE(one(two));
  });
}

TEST(CallGrammar, markers_that_are_control_tokens) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  const auto source = read_text_file(folder + "/deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja", 1 << 20);
  ASSERT_TRUE(source);
  const TestTemplate& t = test_template(*source);
  CallGrammarOptions options;
  options.controls = {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>",
                      "<｜tool▁call▁end｜>",    "<｜tool▁sep｜>",       "<｜end｜>"};
  const CallMarker marker = call_marker(t.format, options.controls);
  EXPECT_TRUE(marker.control);
  EXPECT_EQ(marker.text, "<｜tool▁calls▁begin｜>");
  const Accepts accepts = grammar_of(t, options);
  const std::string spelled = block_of(t, {{"get_weather", parsed_object(R"({"city": "<｜tool▁sep｜>"})")}});
  EXPECT_FALSE(accepts(spelled));
  const auto named = [&](std::string text) {
    for (const std::string& control : options.controls)
      for (std::size_t at = 0; (at = text.find(control, at)) != std::string::npos;) {
        if (text.substr(at - std::min<std::size_t>(at, 1), 1) == "\"") {  // inside of a value: text
          at += control.size();
          continue;
        }
        const std::string bytes = control_mark(control);
        text.replace(at, control.size(), bytes);
        at += bytes.size();
      }
    return text;
  };
  EXPECT_TRUE(accepts(named(spelled)));
  options.start = CallGrammarOptions::Start::kBehindMarker;
  const Accepts behind = grammar_of(t, options);
  EXPECT_TRUE(behind(named(spelled).substr(control_mark(marker.text).size())));
  // A marker that ends the answer is not asked for: the text is whole before it.
  options.start = CallGrammarOptions::Start::kAnswer, options.ends = {"<｜tool▁calls▁end｜>"};
  const Accepts cut = grammar_of(t, options);
  const std::string whole = named(spelled), end = control_mark(options.ends[0]);
  ASSERT_TRUE(whole.ends_with(end));
  EXPECT_TRUE(cut(whole.substr(0, whole.size() - end.size())));
  EXPECT_FALSE(cut(whole));
}

TEST(CallGrammar, masks_let_exactly_the_marker_pass) {
  // Tokens 0 to 3: a control token, its spelling as text, another control token, text that all calls go on with.
  const TestTemplate t(
      "{% for m in messages %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}<call>"
      "{{ c.function.name }} {{ c.function.arguments | tojson }};{% endfor %}</s>{% endfor %}");
  CallGrammarOptions options;
  options.controls = {"<call>", "<cal"};
  const auto grammar = call_grammar(t.format, t.declared, options);
  ASSERT_TRUE(grammar);
  const auto vocabulary = std::make_shared<const Vocabulary>(
      std::vector<std::string>{control_mark("<call>"), "<call>", control_mark("<cal"), "now {"},
      std::vector<std::uint32_t>{});
  Matcher matcher(std::make_shared<Constraint>(*grammar, vocabulary));
  std::uint32_t bits = 0;
  ASSERT_TRUE(matcher.mask({&bits, 1}));
  EXPECT_EQ(bits, 1u);
  EXPECT_EQ(matcher.forced(), control_mark("<call>"));
  ASSERT_TRUE(matcher.advance_token(0));
  ASSERT_TRUE(matcher.mask({&bits, 1}));
  EXPECT_EQ(bits, 8u);
  // No other grammar lets a control token pass.
  Matcher any(std::make_shared<Constraint>(*Grammar::from_regex("[^x]*"), vocabulary));
  ASSERT_TRUE(any.mask({&bits, 1}));
  EXPECT_EQ(bits, 2u + 8u);
}

TEST(CallGrammar, many_tools_fit) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  for (const char* name : {"Qwen3.5-4B", "Qwen-Qwen3-0.6B", "google-gemma-4-31B-it"}) {
    const TestTemplate& t = test_template(read_text_file(folder + "/" + name + ".jinja", 1 << 20).value());
    std::vector<DeclaredTool> tools;
    for (int i = 0; i < 256; ++i) {
      tools.push_back(t.declared[static_cast<std::size_t>(i) % 2]);
      tools.back().name += std::to_string(i);
    }
    const auto begin = std::chrono::steady_clock::now();
    const auto grammar = call_grammar(t.format, tools, {});
    ASSERT_TRUE(grammar) << name << ": " << grammar.error().error().message;
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    std::printf("%s: 256 tools take %zu states, %.2f s\n", name, grammar->network()->size(), took.count());
    EXPECT_TRUE(Accepts(*grammar)(
        replaced(block_of(t, {{"get_weather", parsed_object(R"({"city": "x"})")}}), "get_weather", "get_weather254")));
  }
}

TEST(CallGrammar, hostile_tools_end) {
  // Schemas that each take a good part of the budget, and many names: all share one budget.
  std::string alternatives;
  for (int i = 0; i < 40; ++i)
    alternatives += (i ? ", " : "") + std::string("{\"anyOf\": [{\"required\": [\"a\"]}, {\"required\": [\"b\"]}]}");
  const auto schema =
      parsed_object("{\"properties\": {\"x\": {\"type\": \"object\", \"allOf\": [" + alternatives + "]}}}");
  std::string wide;
  for (int i = 0; i < 1500; ++i)
    wide += (i ? ", \"p" : "\"p") + std::to_string(i) +
            "\": {\"type\": [\"object\", \"string\", \"number\"], \"pattern\": \"^a{0,60}b{0,60}$\"}";
  for (const boost::json::object& parameters : {schema, parsed_object("{\"properties\": {" + wide + "}}")}) {
    std::vector<DeclaredTool> tools;
    for (std::size_t i = 0; i < kToolsMax; ++i) tools.push_back({"tool_" + std::to_string(i), parameters});
    LLORCH_NEED_TEST_DATA(folder, "templates");
    for (const char* name : {"Qwen3.5-4B", "Qwen-Qwen3-0.6B", "google-gemma-4-31B-it"}) {
      const TestTemplate& t = test_template(read_text_file(folder + "/" + name + ".jinja", 1 << 20).value());
      const auto begin = std::chrono::steady_clock::now();
      const auto grammar = call_grammar(t.format, tools, {});
      const auto took = std::chrono::steady_clock::now() - begin;
      EXPECT_FALSE(grammar) << name;
      EXPECT_LT(took, std::chrono::seconds(kSanitized ? 60 : 6)) << name;
      std::printf("%s: %.2f s, %s\n", name, std::chrono::duration<double>(took).count(),
                  grammar ? "compiled" : grammar.error().error().message.substr(0, 80).c_str());
      if (kSanitized) break;  // the budget is the schemas': release has all templates
    }
  }
}

TEST(CallGrammar, refusals_name_tool_and_pointer) {
  const auto refused = [](const ToolFormat& format, const char* parameters, const CallGrammarOptions& options = {}) {
    const std::vector<DeclaredTool> tools{{"fine", {}}, {"odd", parsed_object(parameters)}};
    const auto grammar = call_grammar(format, tools, options);
    return grammar ? std::string() : grammar.error().error().message;
  };
  ToolFormat json;
  json.arguments = ToolFormat::Arguments::kJson;
  json.call = {{Piece::Kind::kText, "@"}, {Piece::Kind::kName, {}}, {Piece::Kind::kArguments, {}}};
  ToolFormat tagged = json;
  tagged.arguments = ToolFormat::Arguments::kParameters;
  tagged.parameters = {
      .first = "<", .next = "<", .assign_text = ">", .assign_other = ">", .close_text = "</p>", .close_other = "</p>"};
  const char* unique = R"({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}})";
  for (const ToolFormat& format : {json, tagged}) {
    EXPECT_TRUE(refused(format, unique).contains("/properties/a"));
    EXPECT_TRUE(refused(format, unique).contains("'odd'"));
    EXPECT_TRUE(refused(format, unique).contains("uniqueItems"));
    EXPECT_EQ(refused(format, R"({"properties": {"a": {"type": "string", "pattern": "^[a-c]+$"}}})"), "");
  }
  EXPECT_TRUE(refused(tagged, R"({"anyOf": [{"required": ["a"]}]})").contains("/anyOf"));
  EXPECT_TRUE(refused(tagged, R"({"properties": {"a": {"$ref": "#/$defs/no"}}})").contains("$ref"));
  EXPECT_TRUE(refused(ToolFormat{}, "{}").contains("shows no calls"));
  EXPECT_TRUE(refused(json, "{}", {.names = {"other"}}).contains("none of the declared"));
}

}  // namespace
}  // namespace llorch::tools
