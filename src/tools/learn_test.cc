// Formats learnt from the published templates (expected values are read off the templates by hand), from made-up ones,
// and from hostile ones.
#include "tools/learn.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "test_data.h"

namespace llorch::tools {
namespace {

using Arguments = ToolFormat::Arguments;

struct Want {
  Arguments arguments;
  std::string begin = {};
  bool parallel = true, text_before = true;
};

const std::map<std::string, Want>& published() {
  constexpr auto kJson = Arguments::kJson, kParameters = Arguments::kParameters;
  static const std::map<std::string, Want> kWant = {
      {"ByteDance-Seed-OSS", {kParameters, "<seed:tool_call>"}},
      {"CohereForAI-c4ai-command-r-plus-tool_use", {kJson, "Action:"}},
      {"GLM-4.7-Flash", {kParameters, "<tool_call>"}},
      {"HuggingFaceTB-SmolLM3-3B", {Arguments::kNone}},
      {"Kimi-K2-Thinking", {kJson, "<|tool_calls_section_begin|><|tool_call_begin|>functions."}},
      {"LFM2.5-Instruct", {Arguments::kNone}},
      {"MiniMax-M2", {kParameters, "<minimax:tool_call>"}},
      {"NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", {kParameters, "<tool_call>"}},
      {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", {kJson, "<tool_call>", true, false}},
      {"NousResearch-Hermes-3-Llama-3.1-8B-tool_use", {kJson, "<tool_call>", true, false}},
      {"Qwen-Qwen2.5-7B-Instruct", {kJson, "<tool_call>"}},
      {"Qwen-Qwen3-0.6B", {kJson, "<tool_call>"}},
      {"Qwen3.5-4B", {kParameters, "<tool_call>"}},
      {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
       {kJson, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>", true, false}},
      {"deepseek-ai-DeepSeek-V3.2", {kParameters, "<｜DSML｜function_calls>"}},
      {"fireworks-ai-llama-3-firefunction-v2", {kJson, "functools["}},
      {"google-gemma-2-2b-it", {Arguments::kNone}},
      {"google-gemma-4-31B-it", {kParameters, "<|tool_call>call:", true, false}},
      {"ibm-granite-granite-4.1", {kJson, "<tool_call>"}},
      {"meetkai-functionary-medium-v3.1", {kJson, "<function="}},
      {"meta-llama-Llama-3.1-8B-Instruct", {kJson, "{\"name\":", false, false}},
      {"meta-llama-Llama-3.2-3B-Instruct", {kJson, "{\"name\":", false, false}},
      {"meta-llama-Llama-3.3-70B-Instruct", {kJson, "{\"name\":", false, false}},
      {"microsoft-Phi-3.5-mini-instruct", {Arguments::kNone}},
      {"mistralai-Ministral-3-14B-Reasoning-2512", {kJson, "[TOOL_CALLS]"}},
      {"mistralai-Mistral-Nemo-Instruct-2407", {kJson, "[TOOL_CALLS][", true, false}},
      {"muse-glimmer", {kParameters, "to=", true, false}},
      {"openai-gpt-oss-120b", {kJson, "to=functions.", false}},
      {"poolside-Laguna-XS.2", {kParameters, "<tool_call>"}},
  };
  return kWant;
}

ToolFormat learnt(std::string_view source) {
  const auto format = learn_tool_format(source);
  EXPECT_TRUE(format) << (format ? "" : format.error().message);
  return format.value_or(ToolFormat{});
}

TEST(Learn, published_templates) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  int formats = 0, others = 0;
  for (const auto& [name, want] : published()) {
    SCOPED_TRACE(name);
    const auto source = read_text_file(folder + "/" + name + ".jinja", 1 << 20);
    ASSERT_TRUE(source);
    const ToolFormat f = learnt(*source);
    EXPECT_EQ(f.arguments, want.arguments);
    EXPECT_EQ(f.begin(), want.begin);
    if (want.arguments == Arguments::kNone) {
      EXPECT_FALSE(f.reason.empty());
      ++others;
      continue;
    }
    ++formats;
    EXPECT_EQ(f.parallel, want.parallel);
    EXPECT_EQ(f.text_before, want.text_before);
    EXPECT_EQ(f.takes_answers, name != "Kimi-K2-Thinking");  // renders in no sandbox
    EXPECT_EQ(f.short_ids, name == "mistralai-Mistral-Nemo-Instruct-2407");
    EXPECT_EQ(f.content == ToolFormat::Content::kNull, name == "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B");
    EXPECT_FALSE(f.arguments_as_text);
  }
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files += entry.path().extension() == ".jinja";
  EXPECT_EQ(files, published().size()) << "a template without an expectation";
  std::printf("templates: %d formats, %d without\n", formats, others);
}

TEST(Learn, what_stands_around_parameters) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  const auto source = read_text_file(folder + "/Qwen3.5-4B.jinja", 1 << 20);
  ASSERT_TRUE(source);
  const ToolFormat f = learnt(*source);
  const Parameters& p = f.parameters;
  EXPECT_EQ(p.first + "|" + p.assign_text + "|" + p.close_text + "|" + p.next,
            "\n<parameter=|>\n|\n</parameter>|\n<parameter=");
  EXPECT_EQ(p.values, Parameters::Values::kRaw);
  EXPECT_EQ(p.null_word + p.true_word + p.false_word, "NoneTrueFalse");  // `arg | string`
  EXPECT_FALSE(p.python_containers);
  EXPECT_EQ(f.between, "\n");
}

/// A made-up template whose calls are `call`, a text of the language with `c` as the call.
std::string made_up_template(const std::string& call, const std::string& between = "") {
  return "{% for t in tools %}{{ t | tojson }}{% endfor %}{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}"
         "{% for c in m.tool_calls or [] %}" +
         call + "{% if not loop.last %}" + between + "{% endif %}{% endfor %}</s>{% endfor %}";
}

TEST(Learn, arguments_as_text) {
  // Printed as it is: objects would come out as Python prints them.
  const ToolFormat plain = learnt(made_up_template("@call {{ c.function.name }} {{ c.function.arguments }};"));
  EXPECT_EQ(plain.arguments, Arguments::kJson);
  EXPECT_TRUE(plain.arguments_as_text);
  EXPECT_EQ(plain.begin(), "@call");
  // A JSON string that holds JSON: only texts can be added to texts.
  const ToolFormat quoted = learnt(
      made_up_template("@{\"n\": \"{{ c.function.name }}\", \"a\": {{ (c.function.arguments + '') | tojson }} }"));
  EXPECT_EQ(quoted.arguments, Arguments::kJsonText);
  EXPECT_TRUE(quoted.arguments_as_text);
}

TEST(Learn, calls_like_python) {
  const ToolFormat f = learnt(
      made_up_template("[[{{ c.function.name }}({% for k, v in c.function.arguments | items %}{{ k }}={{ v | tojson }}"
                       "{{ '' if loop.last else ', ' }}{% endfor %})]]"));
  ASSERT_EQ(f.arguments, Arguments::kParameters);
  EXPECT_EQ(f.parameters.values, Parameters::Values::kJson);
  EXPECT_EQ(f.parameters.next, ", ");
  EXPECT_EQ(f.parameters.assign_other, "=");
  EXPECT_EQ(f.begin(), "[[");
}

TEST(Learn, none_says_why) {
  for (const auto& [source, why] : {
           std::pair<std::string, std::string>{"{% for m in messages %}{{ m.content }}{% endfor %}", "no calls"},
           {"{{ raise_exception('never') }}", "never"},
           {made_up_template("{{ c.function.arguments | tojson }}={{ c.function.name }}"), "before its arguments"},
           {made_up_template("{{ c.function.name }}{{ c.function.arguments | tojson }}"), "begins with its name"},
           {made_up_template(
                "@{{ c.function.name }}@{% for k, v in c.function.arguments | items %}{{ k }} {{ v }}{% endfor %}"),
            "where a value ends"},
       }) {
    const ToolFormat f = learnt(source);
    EXPECT_TRUE(f.none()) << source;
    EXPECT_TRUE(f.reason.contains(why)) << source << ": " << f.reason;
  }
}

TEST(Learn, hostile_templates_end) {
  const std::string loops =
      "{% for a in range(100000) %}{% for b in range(100000) %}{% set x = a * b %}{% endfor %}{% endfor %}";
  for (const std::string& source : {
           loops,
           made_up_template(loops + "@{{ c.function.name }}{{ c.function.arguments | tojson }};"),
           std::string("{{ 'x' * 100000000 }}"),
           made_up_template("{{ '\x01\x02' }}@{{ c.function.name }} {{ c.function.arguments | tojson }}"),
           made_up_template("{{ ('zq_first zqa_key Zqvalue1x ' * 20000) }}"),
           made_up_template("{{ c.function.name * 100 }}{{ (c.function.arguments | tojson) * 100 }}"),
           std::string("{{ messages | tojson }}"),
           std::string("{{ messages }}{{ tools }}"),
       }) {
    const auto begin = std::chrono::steady_clock::now();
    WorkLimit limit(kSanitized ? kLearnUnitsMax / 8 : kLearnUnitsMax);
    const auto format = learn_tool_format(source, {}, limit);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(kSanitized ? 20 : 6)) << source;
    if (format) (void)boost::json::serialize(to_json(*format));
  }
  EXPECT_FALSE(learn_tool_format("{% for"));
  WorkLimit little(10'000);
  EXPECT_FALSE(
      learn_tool_format(made_up_template("@{{ c.function.name }} {{ c.function.arguments | tojson }};"), {}, little));
}

}  // namespace
}  // namespace llorch::tools
