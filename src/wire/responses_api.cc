#include "wire/responses_api.h"

#include <algorithm>

#include "format/json.h"
#include "wire/translation.h"

namespace llorch::wire {
namespace {

constexpr std::size_t kItemsMax = 8192;

class ResponsesReader {
 public:
  explicit ResponsesReader(const boost::json::object& body) : t_(body) {}

  std::expected<ResponsesRequest, Refused> read(const Bounds& bounds, const boost::json::array& earlier) {
    if (const auto text = t_.fields.text("instructions", 1u << 24)) {
      echo("instructions", boost::json::value(*text));
      messages_.push_back({{"role", "system"}, {"content", *text}});
    }
    for (const auto& item : earlier) add(item, "previous_response_id");
    read_input();
    flush_calls();
    t_.chat["messages"] = std::move(messages_);
    for (const std::string_view name : kStructureFields) t_.pass(name, name);  // in our own words, too
    t_.pass({"model", "temperature", "top_p", "stream", "user", "safety_identifier", "prompt_cache_key", "seed", "lora",
             "deadline_ms", "truncation"});
    t_.pass("max_output_tokens", "max_completion_tokens");
    for (const char* name : {"temperature", "top_p", "max_output_tokens", "truncation", "user", "metadata"})
      if (const auto* v = t_.fields.take(name)) echo(name, *v);
    read_tools();
    read_text();
    read_reasoning();
    refuse_others();
    if (const auto* top = t_.fields.take("top_logprobs"); top && *top != 0)
      t_.chat["logprobs"] = true, t_.chat["top_logprobs"] = *top;
    out_.previous = t_.fields.text("previous_response_id", 128);
    out_.store = t_.fields.boolean("store").value_or(true);
    auto chat = t_.read(
        bounds,
        {{"max_completion_tokens", "max_output_tokens"}, {"response_format", "text.format"}, {"messages", "input"}});
    if (!chat) return std::unexpected(chat.error());
    static_cast<CompletionRequest&>(out_) = *std::move(chat);
    return std::move(out_);
  }

 private:
  void echo(std::string_view name, boost::json::value v) { out_.echoed[name] = std::move(v); }

  void read_input() {
    const auto* input = t_.fields.take("input");
    if (!input || !(input->is_string() || input->is_array()) ||
        (input->is_array() && input->get_array().size() > kItemsMax))
      return t_.refuse("input", "a text or a list of items is required", ErrorCode::kInvalidRequest);
    if (input->is_string()) {
      out_.input.push_back({{"type", "message"},
                            {"role", "user"},
                            {"content", boost::json::array{{{"type", "input_text"}, {"text", input->get_string()}}}}});
    } else {
      out_.input = input->get_array();
    }
    for (std::size_t i = 0; i < out_.input.size(); ++i) add(out_.input[i], fmt::format("input[{}]", i));
  }

  void add(const boost::json::value& v, const std::string& where) {
    const auto* o = v.if_object();
    if (!o) return t_.refuse(where, "an item is an object", ErrorCode::kInvalidRequest);
    const std::string type = json::find_text(*o, "type").value_or("message");
    if (type == "function_call") {
      calls_.push_back({{"id", json::find_text(*o, "call_id").value_or("")},
                        {"type", "function"},
                        {"function",
                         {{"name", json::find_text(*o, "name").value_or("")},
                          {"arguments", json::find_text(*o, "arguments").value_or("{}")}}}});
      return;
    }
    if (type == "reasoning") return add_thought(*o);
    if (type == "function_call_output") {
      flush_calls();
      const auto* output = o->if_contains("output");
      const auto text = output ? text_of_blocks(t_, where + ".output", *output) : std::nullopt;
      messages_.push_back({{"role", "tool"},
                           {"tool_call_id", json::find_text(*o, "call_id").value_or("")},
                           {"content", text.value_or("")}});
      return;
    }
    if (type != "message") return t_.refuse(where, "items of this type are not supported");
    const std::string role = json::find_text(*o, "role").value_or("");
    const auto* content = o->if_contains("content");
    const auto text = content ? text_of_blocks(t_, where + ".content", *content) : std::optional<std::string>("");
    if (role != "assistant" || !spoken_) flush_calls();
    boost::json::object m{{"role", role}, {"content", text.value_or("")}};
    if (role == "assistant" && !thought_.empty()) m["reasoning_content"] = std::exchange(thought_, {});
    messages_.push_back(std::move(m));
    spoken_ = role == "assistant";
  }

  void add_thought(const boost::json::object& item) {
    flush_calls();
    if (const auto* parts = json::find_array(item, "content"))
      for (const auto& part : *parts)
        if (const auto* o = part.if_object()) thought_ += json::find_text(*o, "text").value_or("");
  }

  /// Calls belong to what the assistant said just before them.
  void flush_calls() {
    if (!calls_.empty()) {
      if (!spoken_) messages_.push_back({{"role", "assistant"}, {"content", nullptr}});
      auto& m = messages_.back().get_object();
      m["tool_calls"] = std::exchange(calls_, {});
      if (!thought_.empty()) m["reasoning_content"] = std::exchange(thought_, {});
    }
    spoken_ = false;
  }

  void read_tools() {
    const auto* tools = t_.fields.take("tools");
    boost::json::array functions;
    for (const auto& tool : tools && tools->is_array() ? tools->get_array() : boost::json::array()) {
      const auto* o = tool.if_object();
      const std::string at = fmt::format("tools[{}]", functions.size());
      if (!o || json::find_text(*o, "type") != "function")
        return t_.refuse(at, "only tools of type function are supported");
      boost::json::object function;
      for (const char* name : {"name", "description", "parameters"})
        if (const auto* value = o->if_contains(name); value && !value->is_null()) function[name] = *value;
      functions.push_back({{"type", "function"}, {"function", std::move(function)}});
    }
    echo("tools", tools && tools->is_array() ? *tools : boost::json::value(boost::json::array()));
    if (!functions.empty()) t_.chat["tools"] = std::move(functions);
    const auto* choice = t_.fields.take("tool_choice");
    echo("tool_choice", choice ? *choice : boost::json::value("auto"));
    if (choice) t_.chat["tool_choice"] = *choice;
    const bool parallel = t_.fields.boolean("parallel_tool_calls").value_or(true);
    echo("parallel_tool_calls", parallel);
    t_.chat["parallel_tool_calls"] = parallel;
  }

  void read_text() {
    const auto* text = t_.fields.take("text");
    echo("text", text && text->is_object() ? *text : boost::json::value({{"format", {{"type", "text"}}}}));
    const auto* o = text ? text->if_object() : nullptr;
    const auto* format = o ? json::find_object(*o, "format") : nullptr;
    if (!format) return;
    if (json::find_text(*format, "type") == "json_schema")
      t_.chat["response_format"] = {{"type", "json_schema"}, {"json_schema", *format}};
    else
      t_.chat["response_format"] = *format;
  }

  void read_reasoning() {
    const auto* reasoning = t_.fields.take("reasoning");
    echo("reasoning", reasoning && reasoning->is_object()
                          ? *reasoning
                          : boost::json::value({{"effort", nullptr}, {"summary", nullptr}}));
    const auto* o = reasoning ? reasoning->if_object() : nullptr;
    if (const auto effort = o ? json::find_text(*o, "effort") : std::nullopt) t_.chat["reasoning_effort"] = *effort;
  }

  void refuse_others() {
    for (const char* name : {"include", "service_tier", "stream_options", "prompt_cache_retention", "max_tool_calls"})
      t_.fields.take(name);
    for (const char* name : {"background", "conversation", "prompt"}) {
      const auto* v = t_.fields.take(name);
      if (v && *v != boost::json::value(false)) t_.refuse(name, "is not supported");
    }
  }

  Translation t_;
  ResponsesRequest out_;
  boost::json::array messages_, calls_;
  std::string thought_;
  bool spoken_ = false;  // the last message is the assistant's, and takes calls
};

}  // namespace

std::expected<ResponsesRequest, Refused> read_responses_api(const boost::json::object& body, const Bounds& bounds,
                                                            const boost::json::array& earlier) {
  return ResponsesReader(body).read(bounds, earlier);
}

std::optional<std::string> previous_response(const boost::json::object& body) {
  return json::find_text(body, "previous_response_id");
}

}  // namespace llorch::wire
