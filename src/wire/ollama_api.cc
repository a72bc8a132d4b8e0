#include "wire/ollama_api.h"

#include <algorithm>
#include <array>
#include <deque>

#include "format/json.h"
#include "wire/translation.h"

namespace llorch::wire {
namespace {

boost::json::value without_latest(const boost::json::value& model) {
  return model.is_string() ? boost::json::value(untagged(model.get_string())) : model;
}

class OllamaReader {
 public:
  explicit OllamaReader(const boost::json::object& body) : t_(body) {}

  [[nodiscard]] std::expected<CompletionRequest, Refused> chat(const Bounds& bounds) {
    const auto* messages = t_.fields.take("messages");
    if (!messages || !messages->is_array())
      t_.refuse("messages", "a list of messages is required", ErrorCode::kInvalidRequest);
    else if (messages->get_array().empty())
      begin_load();
    else
      for (std::size_t i = 0; i < messages->get_array().size(); ++i)
        add(fmt::format("messages[{}]", i), messages->get_array()[i]);
    t_.pass("tools", "tools");
    return translated(bounds);
  }

  [[nodiscard]] std::expected<CompletionRequest, Refused> generate(const Bounds& bounds) {
    if (const auto system = t_.fields.text("system", kTextMax); system && !system->empty())
      t_.add({{"role", "system"}, {"content", *system}}, "system");
    if (const auto prompt = t_.fields.text("prompt", kTextMax); prompt && !prompt->empty())
      t_.add({{"role", "user"}, {"content", *prompt}}, "prompt");
    else
      begin_load();
    refuse_pictures("images", t_.fields.take("images"));
    for (const char* name : {"suffix", "template", "context"}) {
      const auto* v = t_.fields.take(name);
      const bool empty = !v || v->is_null() || (v->is_string() && v->get_string().empty()) ||
                         (v->is_array() && v->get_array().empty());
      if (!empty) t_.refuse(name, "is not supported");
    }
    if (t_.fields.boolean("raw").value_or(false))
      t_.refuse("raw", "is not supported here: POST /v1/completions takes a prompt without the model's template");
    return translated(bounds);
  }

 private:
  static constexpr std::size_t kTextMax = 4u << 20;

  /// The rest of the request is read as of any other.
  void begin_load() {
    loads_ = true;
    t_.add({{"role", "user"}, {"content", ""}}, "messages");
  }

  void refuse_pictures(std::string_view where, const boost::json::value* images) {
    if (images && !images->is_null() && !(images->is_array() && images->get_array().empty()))
      t_.refuse(where, "pictures are not supported");
  }

  void add(const std::string& where, const boost::json::value& v) {
    const auto* o = v.if_object();
    const auto role = o ? json::find_text(*o, "role") : std::nullopt;
    if (!role) return t_.refuse(where, "an object with a role is required", ErrorCode::kInvalidRequest);
    refuse_pictures(where + ".images", o->if_contains("images"));
    boost::json::object m{{"role", *role}, {"content", ""}};
    if (const auto* content = o->if_contains("content"))
      m["content"] = text_of_blocks(t_, where + ".content", *content).value_or("");
    if (const auto thinking = json::find_text(*o, "thinking")) m["reasoning_content"] = *thinking;
    if (const auto* calls = json::find_array(*o, "tool_calls"); calls && !calls->empty())
      m["tool_calls"] = calls_of(where, *calls);
    if (*role == "tool") m["tool_call_id"] = id_of_result(json::find_text(*o, "tool_name").value_or(""));
    t_.add(std::move(m), where);
  }

  /// Calls have no ids there: results answer them by name, or in their order.
  boost::json::array calls_of(const std::string& where, const boost::json::array& calls) {
    boost::json::array out;
    open_.clear();
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const std::string at = fmt::format("{}.tool_calls[{}]", where, i);
      const auto* call = calls[i].if_object();
      const auto* function = call ? json::find_object(*call, "function") : nullptr;
      if (!function) return t_.refuse(at, "function is required", ErrorCode::kInvalidRequest), out;
      const auto* arguments = function->if_contains("arguments");
      const std::string id = fmt::format("call_{}", ++calls_), name = t_.text(*function, "name", at).value_or("");
      open_.emplace_back(name, id);
      out.push_back({{"id", id},
                     {"type", "function"},
                     {"function",
                      {{"name", name},
                       {"arguments", !arguments               ? "{}"
                                     : arguments->is_string() ? std::string(arguments->get_string())
                                                              : boost::json::serialize(*arguments)}}}});
    }
    return out;
  }

  std::string id_of_result(const std::string& name) {
    auto call = std::ranges::find_if(open_, [&](const auto& each) { return each.first == name; });
    if (call == open_.end()) call = open_.begin();
    if (call == open_.end()) return "";
    std::string id = call->second;
    open_.erase(call);
    return id;
  }

  /// Values by which clients say that they name none.
  [[nodiscard]] static bool means_nothing(std::string_view option, const boost::json::value& v) {
    if (option == "seed") return v.is_int64() && v.get_int64() < 0;
    return option == "repeat_penalty" && json::as_number(v) == 0.0;
  }

  void read_options(const Bounds& bounds) {
    constexpr std::array<std::string_view, 10> kSame{
        "temperature",       "top_p", "top_k",          "min_p",     "seed", "presence_penalty",
        "frequency_penalty", "stop",  "repeat_penalty", "logit_bias"};
    const auto* options = t_.object("options");
    if (!options) return;
    for (const auto& [name, value] : *options) {
      const std::string key(name);
      if (means_nothing(key, value)) continue;
      if (key == "top_k" && value.is_int64()) {
        t_.chat[key] = std::clamp<std::int64_t>(value.get_int64(), 0, bounds.vocab);  // 0 and less: off
      } else if (std::ranges::find(kSame, key) != kSame.end()) {
        t_.chat[key] = value;
      } else if (key == "num_predict") {
        if (!value.is_int64() || value.get_int64() > 0) t_.chat["max_tokens"] = value;  // less: as many as fit
      } else {
        ignored_.push_back("options." + key);
      }
    }
  }

  void read_format() {
    const auto* format = t_.fields.take("format");
    if (!format || format->is_null() || (format->is_string() && format->get_string().empty())) return;
    if (format->is_object())
      t_.chat["response_format"] = {{"type", "json_schema"},
                                    {"json_schema", {{"name", "answer"}, {"schema", *format}}}};
    else if (format->is_string() && format->get_string() == "json")
      t_.chat["response_format"] = {{"type", "json_object"}};
    else
      t_.refuse("format", "must be \"json\" or a JSON schema", ErrorCode::kInvalidRequest);
  }

  /// On, off, or how much.
  void read_think() {
    const auto* think = t_.fields.take("think");
    if (!think || think->is_null()) return;
    if (think->is_string())
      t_.chat["reasoning_effort"] = *think;
    else if (think->is_bool())
      t_.chat["chat_template_kwargs"] = {{"enable_thinking", *think}, {"thinking", *think}};
    else
      t_.refuse("think", "must be true, false, or low, medium or high", ErrorCode::kInvalidRequest);
  }

  std::expected<CompletionRequest, Refused> translated(const Bounds& bounds) {
    t_.pass({"deadline_ms", "cache_salt"});
    if (const auto* model = t_.fields.take("model")) t_.chat["model"] = without_latest(*model);
    t_.chat["stream"] = t_.fields.boolean("stream").value_or(true);
    read_options(bounds), read_format(), read_think();
    auto read = t_.read(bounds, {{"max_tokens", "options.num_predict"},
                                 {"temperature", "options.temperature"},
                                 {"top_p", "options.top_p"},
                                 {"top_k", "options.top_k"},
                                 {"min_p", "options.min_p"},
                                 {"seed", "options.seed"},
                                 {"stop", "options.stop"},
                                 {"repeat_penalty", "options.repeat_penalty"},
                                 {"presence_penalty", "options.presence_penalty"},
                                 {"frequency_penalty", "options.frequency_penalty"},
                                 {"response_format", "format"},
                                 {"reasoning_effort", "think"}});
    if (read) read->ignored.insert(read->ignored.end(), ignored_.begin(), ignored_.end()), read->loads = loads_;
    return read;
  }

  Translation t_;
  std::deque<std::pair<std::string, std::string>> open_;  // calls without a result: name and id
  int calls_ = 0;
  bool loads_ = false;
  std::vector<std::string> ignored_;
};

}  // namespace

std::string_view untagged(std::string_view model) {
  constexpr std::string_view kLatest = ":latest";
  if (model.ends_with(kLatest)) model.remove_suffix(kLatest.size());
  return model;
}

boost::json::object ollama_details(const std::string& quant) {
  return {{"format", "gguf"},
          {"family", ""},
          {"families", boost::json::array()},
          {"parameter_size", ""},
          {"quantization_level", quant}};
}

boost::json::object ollama_model(const std::string& name, std::int64_t size, const std::string& quant) {
  return {{"name", name}, {"model", name}, {"size", size}, {"digest", ""}, {"details", ollama_details(quant)}};
}

boost::json::array ollama_capabilities(const std::vector<std::string>& of_worker) {
  const auto has = [&](std::string_view word) { return std::ranges::find(of_worker, word) != of_worker.end(); };
  boost::json::array out;
  if (!has("text-gen")) {
    if (has("embedding")) out.emplace_back("embedding");
    return out;
  }
  out.emplace_back("completion");
  for (const char* more : {"tools", "thinking"})
    if (has(more)) out.emplace_back(more);
  return out;
}

std::expected<CompletionRequest, Refused> read_ollama_chat(const boost::json::object& body, const Bounds& bounds) {
  return OllamaReader(body).chat(bounds);
}

std::expected<CompletionRequest, Refused> read_ollama_generate(const boost::json::object& body, const Bounds& bounds) {
  return OllamaReader(body).generate(bounds);
}

std::expected<EmbeddingRequest, Refused> read_ollama_embed(const boost::json::object& body, const Bounds& bounds) {
  boost::json::object same = body;
  if (auto* model = same.if_contains("model")) *model = without_latest(*model);
  std::vector<std::string> ignored;
  const auto* truncate = same.if_contains("truncate");
  const bool cuts = !truncate || !truncate->is_bool() || truncate->get_bool();
  same.erase("truncate");
  for (const char* name : {"keep_alive", "options"})
    if (same.erase(name) > 0) ignored.emplace_back(name);
  auto read = read_embedding(same, bounds);
  if (!read) return read;
  read->ignored.insert(read->ignored.end(), ignored.begin(), ignored.end());
  read->truncate = cuts;
  return read;
}

std::expected<EmbeddingRequest, Refused> read_ollama_embeddings(const boost::json::object& body, const Bounds& bounds) {
  boost::json::object renamed = body;
  renamed.erase("input");
  if (const auto* prompt = body.if_contains("prompt"))
    renamed["input"] = prompt->is_string() ? *prompt : boost::json::value(nullptr);
  renamed.erase("prompt");
  auto read = read_ollama_embed(renamed, bounds);
  constexpr std::string_view kRenamed = "input";
  if (!read)
    for (auto& v : read.error().violations) {
      if (v.field == kRenamed) v.field = "prompt";
      if (v.message.starts_with(kRenamed)) v.message.replace(0, kRenamed.size(), "prompt");
    }
  return read;
}

}  // namespace llorch::wire
