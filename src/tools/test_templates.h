// For tests: the published templates with conversations of calls, rendered, and where the model's part begins.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/folder.h"
#include "jinja/template.h"
#include "test_data.h"
#include "tools/conversation.h"
#include "tools/learn.h"
#include "tools/parser.h"

namespace llorch::tools {

inline constexpr std::string_view kTestTools = R"([
 {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": {"type": "object",
   "properties": {"city": {"type": "string", "description": "a"}, "days": {"type": "integer", "description": "a"},
     "exact": {"type": "boolean", "description": "a"}, "share": {"type": "number", "description": "a"}},
   "required": ["city"]}}},
 {"type": "function", "function": {"name": "store-note", "description": "Notes", "parameters": {"type": "object",
   "properties": {"text": {"type": "string", "description": "a"}, "tags": {"type": "array", "items": {"type": "string"}, "description": "a"},
     "more": {"type": "object", "additionalProperties": {"type": "string"}, "description": "a"}, "hint": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "a"}},
   "required": ["text"]}}},
 {"type": "function", "function": {"name": "now", "description": "Time", "parameters": {"type": "object", "properties": {}}}}])";

struct TestCall {
  std::string name;
  boost::json::object arguments;
};
using TestCalls = std::vector<TestCall>;

inline boost::json::object parsed_object(std::string_view text) { return boost::json::parse(text).as_object(); }

/// What templates must bring through: one list for each message.
inline std::vector<TestCalls> test_calls() {
  return {
      {{"get_weather", parsed_object(R"({"city": "Oslo"})")}},
      {{"now", {}}},
      {{"get_weather",
        parsed_object(R"({"city": "Köln \"am\" Rhein\n\n日本 🚀 \\ {x} 'y' <b>", "days": -3, "exact": true})")}},
      {{"get_weather", parsed_object(R"({"city": "5", "days": 12, "exact": false, "share": 0.25})")}},
      {{"store-note",
        parsed_object(R"({"text": "a, b: c", "tags": ["x", "y \"z\""], "more": {"k": "v, w", "l": ""}})")}},
      {{"store-note", parsed_object(R"({"text": "", "tags": [], "more": {}, "hint": null})")}},
      {{"store-note", parsed_object(R"({"text": "true", "hint": "so"})")}},
      {{"get_weather", parsed_object(R"({"city": "a"})")}, {"now", {}}},
      {{"now", {}},
       {"store-note", parsed_object(R"({"text": "1\n2", "tags": ["q"]})")},
       {"get_weather", parsed_object(R"({"city": "b"})")}},
  };
}

class TestTemplate {
 public:
  explicit TestTemplate(const std::string& source) : source_(source), template_(jinja::Template::parse(source)) {
    if (const auto learnt = learn_tool_format(source)) format = *learnt;
    declared = read_tools(boost::json::parse(kTestTools).as_array()).value();
  }
  ToolFormat format;
  std::vector<DeclaredTool> declared;

  [[nodiscard]] const std::string& source() const { return source_; }
  [[nodiscard]] Result<std::string> render(const boost::json::array& messages, bool prompt) const {
    if (!template_) return std::unexpected(template_.error());
    boost::json::object variables;
    add_tool_variables(format, boost::json::parse(kTestTools).as_array(), "today", variables);
    WorkLimit limit(500'000'000);
    LLORCH_TRY(const auto history, prepare_history(format, messages));
    LLORCH_TRY(jinja::Value conversation, jinja::read_messages(history, limit));
    LLORCH_TRY(const jinja::Text text, template_->render(variables,
                                                         {{"messages", std::move(conversation)},
                                                          {"add_generation_prompt", jinja::Value(prompt)},
                                                          {"bos_token", jinja::Value("<s>", true)},
                                                          {"eos_token", jinja::Value("</s>", true)}},
                                                         1'753'000'000));
    return text.bytes;
  }
  /// What the template shows of the model's own part: from behind the prompt, or behind what it shares with an answer,
  /// to what both share at their end.
  [[nodiscard]] Result<std::string> own_part(const TestCalls& calls, const std::string& text = {}) const {
    const boost::json::object user{{"role", "user"}, {"content", "Go on."}};
    LLORCH_TRY(std::string all, render({user, calling(calls, text)}, false));
    LLORCH_TRY(const std::string prompt, render({user}, true));
    LLORCH_TRY(const std::string answer, render({user, {{"role", "assistant"}, {"content", "Zz."}}}, false));
    auto end = std::mismatch(all.rbegin(), all.rend(), answer.rbegin(), answer.rend()).first.base();
    if (end != all.end() && !std::string_view("<[\n").contains(*end))  // within a mark: it belongs to the call
      if (const auto mark = std::find(end, all.end(), '>'); mark != all.end()) end = mark + 1;
    all.erase(end, all.end());
    if (all.starts_with(prompt)) return all.substr(prompt.size());
    const auto [a, b] = std::mismatch(all.begin(), all.end(), answer.begin(), answer.end());
    std::size_t at = static_cast<std::size_t>(a - all.begin());
    if (!text.empty()) at = std::min(at, all.rfind(text));
    while (at > 0 && (static_cast<unsigned char>(all[at]) & 0xc0) == 0x80) --at;
    return all.substr(at);
  }
  static boost::json::object calling(const TestCalls& calls, const std::string& text) {
    boost::json::array list;
    for (std::size_t i = 0; i < calls.size(); ++i)
      list.push_back(
          {{"id", "call_" + std::to_string(i)},
           {"type", "function"},
           {"function", {{"name", calls[i].name}, {"arguments", boost::json::serialize(calls[i].arguments)}}}});
    return {{"role", "assistant"}, {"content", text}, {"tool_calls", list}};
  }

 private:
  std::string source_;
  Result<jinja::Template> template_;
};

/// The template of this source, made once: learning a format renders the template many times.
inline const TestTemplate& test_template(const std::string& source) {
  static std::map<std::string, TestTemplate> made;
  return made.try_emplace(source, source).first->second;
}

/// name of the file -> source, of all published templates.
inline std::vector<std::pair<std::string, std::string>> published_templates() {
  std::vector<std::pair<std::string, std::string>> out;
  const auto entries = entries_of(test_data_path("templates")).value();
  for (const auto& entry : entries)
    if (entry.path().extension() == ".jinja")
      out.emplace_back(entry.path().stem().string(), read_text_file(entry.path().string(), 1 << 20).value());
  std::sort(out.begin(), out.end());
  return out;
}

using Renames = std::vector<std::pair<std::string, std::string>>;

/// Other spellings for every marker of calls in some templates: made-up ones.
inline const std::vector<std::pair<std::string, Renames>>& renamings() {
  const Renames qwen_coder = {{"<tool_call>", "⟦werk⟧"}, {"</tool_call>", "⟦/werk⟧"}, {"<function=", "%fn:"},
                              {"</function>", "%nf"},    {"<parameter=", "$arg "},    {"</parameter>", "$gra"}},
                hermes = {{"<tool_call>", "BEGIN-WORK"},
                          {"</tool_call>", "END-WORK"},
                          {"\"name\"", "\"which\""},
                          {"\"arguments\"", "\"with\""}};
  static const std::vector<std::pair<std::string, Renames>> kAll = {
      {"Qwen3.5-4B", qwen_coder},
      {"NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", qwen_coder},
      {"Qwen-Qwen3-0.6B", hermes},
      {"ibm-granite-granite-4.1", hermes},
      {"ByteDance-Seed-OSS",
       {{"seed:tool_call", "s-werk"},
        {"<function=", "<f "},
        {"</function>", "</f>"},
        {"<parameter=", "<p "},
        {"</parameter>", "</p>"}}},
      {"GLM-4.7-Flash", {{"tool_call>", "zz>"}, {"arg_key>", "k>"}, {"arg_value>", "v>"}}},
      {"MiniMax-M2",
       {{"minimax:tool_call", "mm"},
        {"<invoke name=", "<do it="},
        {"</invoke>", "</do>"},
        {"<parameter name=", "<par of="},
        {"</parameter>", "</par>"}}},
      {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
       {{"<｜tool▁calls▁begin｜>", "((("},
        {"<｜tool▁calls▁end｜>", ")))"},
        {"<｜tool▁call▁begin｜>", "(do "},
        {"<｜tool▁call▁end｜>", ")"},
        {"<｜tool▁sep｜>", "::"},
        {"```json", "with"},
        {"'```'", "'thanks'"}}},
      {"deepseek-ai-DeepSeek-V3.2",
       {{"｜DSML｜", "x-"},
        {"function_calls", "jobs"},
        {"invoke", "job"},
        {"'parameter", "'par"},
        {" string=", " plain="}}},
      {"google-gemma-4-31B-it", {{"<|tool_call>call:", "{{do:"}, {"<tool_call|>", "od}}"}, {"<|\"|>", "%%"}}},
      {"mistralai-Ministral-3-14B-Reasoning-2512", {{"[TOOL_CALLS]", "[[run]]"}, {"[ARGS]", "[[with]]"}}},
      {"mistralai-Mistral-Nemo-Instruct-2407", {{"[TOOL_CALLS]", "run: "}, {", \"id\":", ", \"ref\":"}}},
  };
  return kAll;
}

inline std::string renamed_template(const std::string& name, const Renames& renames) {
  std::string source = read_text_file(test_data_path("templates/" + name + ".jinja"), 1 << 20).value();
  for (const auto& [from, to] : renames) {
    std::size_t count = 0;
    for (std::size_t at = 0; (at = source.find(from, at)) != std::string::npos; at += to.size(), ++count)
      source.replace(at, from.size(), to);
    EXPECT_GT(count, 0u) << name << " has no " << from;
  }
  return source;
}

struct Taken {
  std::string text;
  TestCalls calls;
  bool complete = true, valid = true;
};
inline Taken taken(const Items& items) {
  Taken out;
  std::string arguments;
  for (const Item& item : items) switch (item.kind) {
      case Item::Kind::kText: out.text += item.text; break;
      case Item::Kind::kControl: break;
      case Item::Kind::kCallBegin: out.calls.push_back({item.name, {}}), arguments.clear(); break;
      case Item::Kind::kArguments: arguments += item.text; break;
      case Item::Kind::kCallEnd: {
        boost::system::error_code bad;
        const auto value = boost::json::parse(arguments, bad);
        out.complete = out.complete && item.complete;
        if (bad || !value.is_object())
          out.valid = false;
        else
          out.calls.back().arguments = value.get_object();
      }
    }
  return out;
}
inline Items parse_all(const ToolFormat& format, const std::vector<DeclaredTool>& tools, std::string_view text) {
  ToolCallParser parser(format, tools);
  Items items = parser.push(text);
  append(items, parser.finish());
  return items;
}

inline std::string shown(const TestCalls& calls) {
  std::string out;
  for (const TestCall& c : calls) {  // keys sorted: some templates sort them
    std::map<std::string, std::string> sorted;
    for (const auto& [k, v] : c.arguments) sorted[std::string(k)] = boost::json::serialize(v);
    out += c.name + "(";
    for (const auto& [k, v] : sorted) out += k + "=" + v + ", ";
    out += ") ";
  }
  return out;
}

}  // namespace llorch::tools
