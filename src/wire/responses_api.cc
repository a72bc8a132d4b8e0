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
      t_.add({{"role", "system"}, {"content", *text}}, "instructions");
    }
    for (const auto& item : earlier) add(item, "previous_response_id");
    read_input();
    flush_calls();
    for (const std::string_view name : kStructureFields) t_.pass(name, name);  // in our own words, too
    t_.pass({"model", "temperature", "top_p", "stream", "user", "safety_identifier", "prompt_cache_key", "seed", "lora",
             "deadline_ms", "truncation", "stop"});
    t_.pass_own();
    t_.pass("max_output_tokens", "max_completion_tokens");
    for (const char* name : {"temperature", "top_p", "max_output_tokens", "truncation", "user"})
      if (const auto* v = t_.fields.take(name)) echo(name, *v);
    read_tools();
    read_text();
    read_reasoning();
    refuse_others();
    if (const auto* top = t_.fields.take("top_logprobs"); top && *top != 0)
      t_.refuse("top_logprobs", "is not supported on this route");
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
      calls_.push_back({{"id", t_.text(*o, "call_id", where).value_or("")},
                        {"type", "function"},
                        {"function",
                         {{"name", t_.text(*o, "name", where).value_or("")},
                          {"arguments", t_.text(*o, "arguments", where).value_or("{}")}}}});
      place_ = where;
      return;
    }
    if (type == "reasoning") return add_thought(*o);
    if (type == "function_call_output") {
      flush_calls();
      const auto* output = o->if_contains("output");
      if (!output) return t_.refuse(where + ".output", "is required", ErrorCode::kInvalidRequest);
      const auto text = text_of_blocks(t_, where + ".output", *output);
      t_.add({{"role", "tool"},
              {"tool_call_id", t_.text(*o, "call_id", where).value_or("")},
              {"content", text.value_or("")}},
             where);
      return;
    }
    if (type != "message") return t_.refuse(where, "items of this type are not supported");
    const std::string role = json::find_text(*o, "role").value_or("");
    const auto* content = o->if_contains("content");
    if (!content) return t_.refuse(where + ".content", "is required", ErrorCode::kInvalidRequest);
    const auto text = text_of_blocks(t_, where + ".content", *content);
    if (role != "assistant" || !spoken_) flush_calls();
    boost::json::object m{{"role", role}, {"content", text.value_or("")}};
    if (role == "assistant" && !thought_.empty()) m["reasoning_content"] = std::exchange(thought_, {});
    t_.add(std::move(m), where);
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
      if (!spoken_) t_.add({{"role", "assistant"}, {"content", nullptr}}, place_);
      auto& m = t_.messages().back().get_object();
      m["tool_calls"] = std::exchange(calls_, {});
      if (!thought_.empty()) m["reasoning_content"] = std::exchange(thought_, {});
    }
    spoken_ = false;
  }

  void read_tools() {
    const auto* tools = t_.fields.take("tools");
    pass_tools(t_, tools, {"function", "parameters"});
    echo("tools", tools && tools->is_array() ? *tools : boost::json::value(boost::json::array()));
    const auto* choice = t_.fields.take("tool_choice");
    echo("tool_choice", choice ? *choice : boost::json::value("auto"));
    if (choice) t_.chat["tool_choice"] = *choice;
    const bool parallel = t_.fields.boolean("parallel_tool_calls").value_or(true);
    echo("parallel_tool_calls", parallel);
    t_.chat["parallel_tool_calls"] = parallel;
  }

  void read_text() {
    const auto* o = t_.object("text");
    echo("text", o ? boost::json::value(*o) : boost::json::value({{"format", {{"type", "text"}}}}));
    const auto* given = o ? o->if_contains("format") : nullptr;
    if (!given || given->is_null()) return;
    const auto* format = given->if_object();
    if (!format) return t_.refuse("text.format", "an object is required", ErrorCode::kInvalidRequest);
    if (json::find_text(*format, "type") == "json_schema")
      t_.chat["response_format"] = {{"type", "json_schema"}, {"json_schema", *format}};
    else
      t_.chat["response_format"] = *format;
  }

  void read_reasoning() {
    const auto* o = t_.object("reasoning");
    echo("reasoning", o ? boost::json::value(*o) : boost::json::value({{"effort", nullptr}, {"summary", nullptr}}));
    if (const auto effort = o ? json::find_text(*o, "effort") : std::nullopt) t_.chat["reasoning_effort"] = *effort;
  }

  /// As OpenAI bounds it, since it is repeated and kept.
  void read_metadata() {
    constexpr std::size_t kPairsMax = 16, kKeyMax = 64, kValueMax = 512;
    const auto* o = t_.object("metadata");
    if (!o) return;
    const bool fits = o->size() <= kPairsMax && std::ranges::all_of(*o, [](const auto& pair) {
                        return pair.key().size() <= kKeyMax && pair.value().is_string() &&
                               pair.value().get_string().size() <= kValueMax;
                      });
    if (!fits) return t_.refuse("metadata", "at most 16 short texts are taken", ErrorCode::kInvalidRequest);
    echo("metadata", boost::json::value(*o));
  }

  void refuse_others() {
    read_metadata();
    for (const char* name : {"include", "service_tier", "stream_options", "prompt_cache_retention", "max_tool_calls"})
      t_.fields.take(name);
    for (const char* name : {"background", "conversation", "prompt"}) {
      const auto* v = t_.fields.take(name);
      if (v && *v != boost::json::value(false)) t_.refuse(name, "is not supported");
    }
  }

  Translation t_;
  ResponsesRequest out_;
  boost::json::array calls_;
  std::string thought_, place_;  // place_: of the last call
  bool spoken_ = false;          // the last message is the assistant's, and takes calls
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
