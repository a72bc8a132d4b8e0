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
        messages_.push_back(message("system", *std::move(text)));
    const auto* messages = t_.fields.take("messages");
    if (!messages || !messages->is_array())
      t_.refuse("messages", "a list of messages is required", ErrorCode::kInvalidRequest);
    else
      for (std::size_t i = 0; i < messages->get_array().size(); ++i) add(i, messages->get_array()[i]);
    t_.chat["messages"] = std::move(messages_);
    for (const std::string_view name : kStructureFields) t_.pass(name, name);  // in our own words, too
    t_.pass({"model", "max_tokens", "temperature", "top_p", "top_k", "stream", "deadline_ms", "lora", "seed"});
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

 private:
  void add(std::size_t i, const boost::json::value& v) {
    const std::string where = fmt::format("messages[{}]", i);
    const auto* o = v.if_object();
    const auto role = o ? json::find_text(*o, "role") : std::nullopt;
    const auto* content = o ? o->if_contains("content") : nullptr;
    if (!content || (role != "user" && role != "assistant" && role != "system"))
      return t_.refuse(where, "role user or assistant, and content, are required", ErrorCode::kInvalidRequest);
    if (content->is_string()) return void(messages_.push_back(message(*role, std::string(content->get_string()))));
    if (!content->is_array())
      return t_.refuse(where, "content is a text or a list of blocks", ErrorCode::kInvalidRequest);
    role == "assistant" ? add_answer(where, content->get_array()) : add_blocks(where, *role, content->get_array());
  }

  /// Texts of a user, and answers of tools in between.
  void add_blocks(const std::string& where, const std::string& role, const boost::json::array& blocks) {
    std::string text;
    bool any = false;
    const auto flush = [&] {
      if (any) messages_.push_back(message(role, std::exchange(text, {})));
      any = false;
    };
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const auto* o = blocks[i].if_object();
      const auto type = o ? json::find_text(*o, "type").value_or("") : std::string();
      const std::string at = fmt::format("{}.content[{}]", where, i);
      if (type == "text") {
        text += (any ? "\n" : "") + json::find_text(*o, "text").value_or("");
        any = true;
      } else if (type == "tool_result") {
        flush();
        const auto* content = o->if_contains("content");
        auto answer = content ? text_of_blocks(t_, at, *content) : std::optional<std::string>("");
        if (!answer) return;
        boost::json::object m = message("tool", *std::move(answer));
        m["tool_call_id"] = json::find_text(*o, "tool_use_id").value_or("");
        messages_.push_back(std::move(m));
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
      if (type == "text") {
        text += json::find_text(*o, "text").value_or("");
      } else if (type == "thinking") {
        thoughts += json::find_text(*o, "thinking").value_or("");
      } else if (type == "tool_use") {
        const auto* input = o->if_contains("input");
        calls.push_back({{"id", json::find_text(*o, "id").value_or("")},
                         {"type", "function"},
                         {"function",
                          {{"name", json::find_text(*o, "name").value_or("")},
                           {"arguments", input ? boost::json::serialize(*input) : "{}"}}}});
      } else if (type != "redacted_thinking") {
        return t_.refuse(fmt::format("{}.content[{}]", where, i), "only text, thinking and tool_use are supported");
      }
    }
    m["content"] = text;
    if (!thoughts.empty()) m["reasoning_content"] = thoughts;
    if (!calls.empty()) m["tool_calls"] = std::move(calls);
    messages_.push_back(std::move(m));
  }

  void read_tools() {
    const auto* tools = t_.fields.take("tools");
    boost::json::array functions;
    for (const auto& tool : tools && tools->is_array() ? tools->get_array() : boost::json::array()) {
      const auto* o = tool.if_object();
      const std::string at = fmt::format("tools[{}]", functions.size());
      if (!o || json::find_text(*o, "type").value_or("custom") != "custom")
        return t_.refuse(at, "only tools of the client's own are supported");
      boost::json::object function{{"name", json::find_text(*o, "name").value_or("")}};
      if (const auto text = json::find_text(*o, "description")) function["description"] = *text;
      const auto* schema = o->if_contains("input_schema");
      function["parameters"] = schema ? *schema : boost::json::value(boost::json::object());
      functions.push_back({{"type", "function"}, {"function", std::move(function)}});
    }
    if (!functions.empty()) t_.chat["tools"] = std::move(functions);
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
    const auto* thinking = t_.fields.take("thinking");
    const auto* o = thinking ? thinking->if_object() : nullptr;
    if (!o) return;
    const bool thinks = json::find_text(*o, "type").value_or("") != "disabled";
    t_.chat["chat_template_kwargs"] = {{"enable_thinking", thinks}, {"thinking", thinks}};
  }

  void read_format() {
    const auto* config = t_.fields.take("output_config");
    const auto* o = config ? config->if_object() : nullptr;
    const auto* format = o ? json::find_object(*o, "format") : nullptr;
    if (const auto* older = t_.fields.take("output_format"); older && !format) format = older->if_object();
    if (!format) return;
    const auto* schema = format->if_contains("schema");
    if (json::find_text(*format, "type") != "json_schema" || !schema)
      return t_.refuse("output_config.format", "type json_schema with a schema is required");
    t_.chat["response_format"] = {{"type", "json_schema"}, {"json_schema", {{"name", "answer"}, {"schema", *schema}}}};
  }

  Translation t_;
  boost::json::array messages_;
};

}  // namespace

std::expected<CompletionRequest, Refused> read_messages_api(const boost::json::object& body, const Bounds& bounds) {
  MessagesReader reader(body);
  Translation& t = reader.read();
  if (!t.chat.contains("max_tokens")) t.refuse("max_tokens", "is required", ErrorCode::kInvalidRequest);
  return t.read(bounds, {{"stop", "stop_sequences"}, {"response_format", "output_config.format"}});
}

std::expected<CompletionRequest, Refused> read_messages_count(const boost::json::object& body, const Bounds& bounds) {
  MessagesReader reader(body);
  return reader.read().read(bounds, {});
}

}  // namespace llorch::wire
