#include "wire/messages_api.h"

#include "format/json.h"
#include "wire/translation.h"

namespace llorch::wire {
namespace {

boost::json::object message(std::string_view role, std::string content) {
  return {{"role", role}, {"content", std::move(content)}};
}

class MessagesReader {
 public:
  explicit MessagesReader(const boost::json::object& body) : t_(body) {}

  Translation& read() {
    if (const auto* system = t_.fields.take("system"))
      if (auto text = text_of_blocks(t_, "system", *system); text && !text->empty())
        t_.add(message("system", *std::move(text)), "system");
    const auto* messages = t_.fields.take("messages");
    if (!messages || !messages->is_array())
      t_.refuse("messages", "a list of messages is required", ErrorCode::kInvalidRequest);
    else
      for (std::size_t i = 0; i < messages->get_array().size(); ++i) add(i, messages->get_array()[i]);
    if (ends_with_text()) t_.chat["continue_final_message"] = true;
    for (const std::string_view name : kStructureFields) t_.pass(name, name);  // in our own words, too
    t_.pass({"model", "max_tokens", "temperature", "top_p", "stream", "deadline_ms", "lora", "seed"});
    t_.pass_own();
    t_.pass("stop_sequences", "stop");
    read_tools();
    read_thinking();
    read_format();
    for (const char* name : {"metadata", "service_tier", "inference_geo", "context_management", "cache_control"})
      t_.fields.take(name);
    for (const char* name : {"container", "mcp_servers"})
      if (const auto* v = t_.fields.take(name); v && !(v->is_array() && v->get_array().empty()))
        t_.refuse(name, "is not supported");
    return t_;
  }
  /// What read() found, as Chat Completions has it.
  [[nodiscard]] std::expected<CompletionRequest, Refused> translated(const Bounds& bounds) {
    return t_.read(bounds,
                   {{"stop", "stop_sequences"},
                    {"continue_final_message", "messages"},
                    {"response_format", "output_config.format"},
                    {"thinking_budget_tokens", budgeted_ ? "thinking.budget_tokens" : "thinking_budget_tokens"}});
  }

 private:
  /// A last message of the assistant is the beginning of the answer.
  [[nodiscard]] bool ends_with_text() {
    if (t_.messages().empty()) return false;
    const auto& last = t_.messages().back().get_object();
    const auto* content = last.if_contains("content");
    return last.at("role") == "assistant" && content && content->is_string() && !content->get_string().empty() &&
           !last.contains("tool_calls");
  }

  void add(std::size_t i, const boost::json::value& v) {
    const std::string where = fmt::format("messages[{}]", i);
    const auto* o = v.if_object();
    const auto role = o ? json::find_text(*o, "role") : std::nullopt;
    const auto* content = o ? o->if_contains("content") : nullptr;
    if (!content || (role != "user" && role != "assistant" && role != "system"))
      return t_.refuse(where, "role user or assistant, and content, are required", ErrorCode::kInvalidRequest);
    if (content->is_string()) return t_.add(message(*role, std::string(content->get_string())), where);
    if (!content->is_array())
      return t_.refuse(where, "content is a text or a list of blocks", ErrorCode::kInvalidRequest);
    role == "assistant" ? add_answer(where, content->get_array()) : add_blocks(where, *role, content->get_array());
  }

  /// Texts of a user, and answers of tools in between.
  void add_blocks(const std::string& where, const std::string& role, const boost::json::array& blocks) {
    std::string text;
    bool any = false;
    if (blocks.empty())
      return t_.refuse(where + ".content", "at least one block is required", ErrorCode::kInvalidRequest);
    const auto flush = [&] {
      if (any) t_.add(message(role, std::exchange(text, {})), where);
      any = false;
    };
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const auto* o = blocks[i].if_object();
      const auto type = o ? json::find_text(*o, "type").value_or("") : std::string();
      const std::string at = fmt::format("{}.content[{}]", where, i);
      if (type == "text") {
        text += (any ? "\n" : "") + t_.text(*o, "text", at).value_or("");
        any = true;
      } else if (type == "tool_result") {
        flush();
        const auto* content = o->if_contains("content");
        auto answer = content ? text_of_blocks(t_, at, *content) : std::optional<std::string>("");
        if (!answer) return;
        boost::json::object m = message("tool", *std::move(answer));
        m["tool_call_id"] = t_.text(*o, "tool_use_id", at).value_or("");
        t_.add(std::move(m), at);
      } else {
        return t_.refuse(at, "only blocks of type text and tool_result are supported");
      }
    }
    flush();
  }

  void add_answer(const std::string& where, const boost::json::array& blocks) {
    boost::json::object m = message("assistant", "");
    std::string text, thoughts;
    boost::json::array calls;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const auto* o = blocks[i].if_object();
      const auto type = o ? json::find_text(*o, "type").value_or("") : std::string();
      const std::string at = fmt::format("{}.content[{}]", where, i);
      if (type == "text") {
        text += t_.text(*o, "text", at).value_or("");
      } else if (type == "thinking") {
        thoughts += t_.text(*o, "thinking", at).value_or("");
      } else if (type == "tool_use") {
        const auto* input = o->if_contains("input");
        if (input && !input->is_object()) t_.refuse(at + ".input", "an object is required", ErrorCode::kInvalidRequest);
        calls.push_back({{"id", t_.text(*o, "id", at).value_or("")},
                         {"type", "function"},
                         {"function",
                          {{"name", t_.text(*o, "name", at).value_or("")},
                           {"arguments", input ? boost::json::serialize(*input) : "{}"}}}});
      } else if (type != "redacted_thinking") {
        return t_.refuse(at, "only text, thinking and tool_use are supported");
      }
    }
    m["content"] = text;
    if (!thoughts.empty()) m["reasoning_content"] = thoughts;
    if (!calls.empty()) m["tool_calls"] = std::move(calls);
    t_.add(std::move(m), where);
  }

  void read_tools() {
    pass_tools(t_, t_.fields.take("tools"), {"custom", "input_schema", true});
    const auto* choice = t_.fields.take("tool_choice");
    if (!choice) return;
    const auto* o = choice->if_object();
    const auto type = o ? json::find_text(*o, "type").value_or("") : std::string();
    if (type == "tool")
      t_.chat["tool_choice"] = {{"type", "function"},
                                {"function", {{"name", json::find_text(*o, "name").value_or("")}}}};
    else if (type == "auto" || type == "any" || type == "none")
      t_.chat["tool_choice"] = type;
    else
      t_.refuse("tool_choice", "type must be auto, any, tool or none");
    if (o && json::find_bool(*o, "disable_parallel_tool_use").value_or(false)) t_.chat["parallel_tool_calls"] = false;
  }

  void read_thinking() {
    const auto* o = t_.object("thinking");
    if (!o) return;
    const bool thinks = json::find_text(*o, "type").value_or("") != "disabled";
    auto& arguments = t_.chat["chat_template_kwargs"];
    if (arguments.is_null()) arguments = boost::json::object();
    if (auto* given = arguments.if_object())  // what the client gives there stands
      for (const char* name : {"enable_thinking", "thinking"})
        if (!given->contains(name)) (*given)[name] = thinks;
    const auto* budget = o->if_contains("budget_tokens");
    if (!budget || !thinks) return;
    for (const std::string_view other : {"thinking_budget", "reasoning_budget", "thinking_budget_tokens"})
      if (const auto* given = json::find(t_.chat, other); given && *given != *budget)
        t_.fields.violation("thinking.budget_tokens", fmt::format("equal to {}", other),
                            fmt::format("{} and thinking.budget_tokens differ", other));
    t_.chat["thinking_budget_tokens"] = *budget, budgeted_ = true;
  }

  void read_format() {
    const auto* o = t_.object("output_config");
    const auto* given = o ? o->if_contains("format") : nullptr;
    if (given && !given->is_object() && !given->is_null())
      return t_.refuse("output_config.format", "an object is required", ErrorCode::kInvalidRequest);
    const auto* format = given ? given->if_object() : nullptr;
    if (const auto* older = t_.object("output_format"); older && !format) format = older;
    if (!format) return;
    const auto* schema = format->if_contains("schema");
    if (json::find_text(*format, "type") != "json_schema" || !schema)
      return t_.refuse("output_config.format", "type json_schema with a schema is required");
    t_.chat["response_format"] = {{"type", "json_schema"}, {"json_schema", {{"name", "answer"}, {"schema", *schema}}}};
  }

  Translation t_;
  bool budgeted_ = false;  // by `thinking`
};

}  // namespace

std::expected<CompletionRequest, Refused> read_messages_api(const boost::json::object& body, const Bounds& bounds) {
  MessagesReader reader(body);
  Translation& t = reader.read();
  if (!t.chat.contains("max_tokens")) t.refuse("max_tokens", "is required", ErrorCode::kInvalidRequest);
  return reader.translated(bounds);
}

std::expected<CompletionRequest, Refused> read_messages_count(const boost::json::object& body, const Bounds& bounds) {
  MessagesReader reader(body);
  reader.read();
  return reader.translated(bounds);
}

}  // namespace llorch::wire
