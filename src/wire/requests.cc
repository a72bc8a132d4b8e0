#include "wire/requests.h"

#include <algorithm>
#include <utility>

#include <fmt/ranges.h>

#include "base/integer.h"
#include "base/limits.h"

namespace llorch::wire {
namespace {

constexpr std::size_t kPromptPointsMax = 32'768, kSaltBytesMax = 256, kMessagesMax = 4096;

/// Whether `text` has so many code points at most.
bool has_points_at_most(std::string_view text, std::size_t most) {
  constexpr std::size_t kBytesOfPoint = 4;
  return text.size() <= kBytesOfPoint * most &&
         std::cmp_less_equal(
             std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }), most);
}

/// Fields that every route understands.
void read_sampling(Fields& f, const Bounds& bounds, Generation& g) {
  SamplingParams& s = g.sampling;
  const SamplingParams& unnamed = bounds.sampling;
  s.temperature = f.number("temperature", 0, 2, "range(0.0..=2.0)").value_or(unnamed.temperature);
  s.top_p = f.number("top_p", 0, 1, "range(0.0..=1.0)").value_or(unnamed.top_p);
  s.min_p = f.number("min_p", 0, 1, "range(0.0..=1.0)").value_or(unnamed.min_p);
  s.top_k = static_cast<int>(f.integer("top_k", 0, bounds.vocab).value_or(unnamed.top_k));
  s.repetition_penalty =
      f.number("repetition_penalty", 1e-9, 2, "range(0.0<..=2.0)").value_or(unnamed.repetition_penalty);
  s.presence_penalty = f.number("presence_penalty", -2, 2, "range(-2.0..=2.0)").value_or(0);
  s.frequency_penalty = f.number("frequency_penalty", -2, 2, "range(-2.0..=2.0)").value_or(0);
  g.seed = f.unsigned_integer("seed");
  g.stop = f.texts("stop", limits::kStopStringsMax, limits::kStopBytesMax);
  g.ignore_eos = f.boolean("ignore_eos").value_or(false), g.receipt = f.boolean("receipt").value_or(false);
  if (const auto deadline = f.integer("deadline_ms", 1, std::int64_t{1} << 40)) g.deadline_ms = deadline;
  g.structure = read_structure(f);
}

constexpr std::int64_t kTokensUnbounded = std::int64_t{1} << 31;
constexpr int kCompletionTokens = 16;  // OpenAI's default of text completions

/// How long an answer may be: -1, as clients of other servers write it, and nothing are no limit.
std::optional<int> read_most_tokens(Fields& f, std::string_view name, std::int64_t low, std::int64_t high) {
  if (const auto* v = f.take(name); v && *v == -1) return std::nullopt;
  const auto max = f.integer(name, low, high);
  if (!max) return std::nullopt;
  return static_cast<int>(std::min<std::int64_t>(*max, limits::kContextMax));
}

void check_text(Fields& f, std::string_view name, std::string_view text) {
  if (text.contains('\0')) f.violation(name, "no NUL", fmt::format("{} must not contain NUL", name));
}

/// Roles and contents of messages; texts given in parts are joined by line breaks.
boost::json::array read_messages(Fields& f, const boost::json::value& v) {
  boost::json::array out;
  const auto bad = [&](std::size_t i, std::string_view what, std::string message,
                       ErrorCode code = ErrorCode::kInvalidRequest) {
    f.violation(fmt::format("messages[{}].{}", i, what), std::string(what), std::move(message), code);
  };
  if (!v.is_array() || v.get_array().empty() || v.get_array().size() > kMessagesMax) {
    f.violation("messages", fmt::format("length(1..={})", kMessagesMax),
                "messages must be an array with at least one entry");
    return out;
  }
  static constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};
  for (std::size_t i = 0; i < v.get_array().size(); ++i) {
    const auto* m = v.get_array()[i].if_object();
    if (!m) {
      bad(i, "object", "each message must be an object");
      continue;
    }
    boost::json::object message = *m;
    const auto* role = m->if_contains("role");
    if (!role || !role->is_string() ||
        std::ranges::find(kRoles, std::string_view(role->get_string())) == std::end(kRoles))
      bad(i, "role", "role must be system, developer, user, assistant or tool", ErrorCode::kUnsupportedValue);
    else if (role->get_string() == "developer")
      message["role"] = "system";
    if (const auto* calls = message.if_contains("tool_calls"); calls && calls->is_null())
      message.erase("tool_calls");
    else if (calls && !calls->is_array())
      bad(i, "tool_calls", "tool_calls must be an array");
    auto* content = message.if_contains("content");
    if (content && content->is_array()) {
      std::string joined;
      for (const auto& part : content->get_array()) {
        const auto* p = part.if_object();
        const auto* type = p ? p->if_contains("type") : nullptr;
        const auto* text = p ? p->if_contains("text") : nullptr;
        if (!type || !type->is_string() || type->get_string() != "text" || !text || !text->is_string()) {
          bad(i, "content", "only parts of type text are supported", ErrorCode::kUnsupportedValue);
          break;
        }
        if (!joined.empty()) joined += '\n';
        joined += std::string_view(text->get_string());
      }
      message["content"] = joined;
    } else if (content && !content->is_string() && !content->is_null()) {
      bad(i, "content", "content must be a string, an array of parts, or null");
    } else if (!content || content->is_null()) {
      if (!message.contains("tool_calls")) bad(i, "content", "content is required");
      message["content"] = "";
    }
    if (const auto* text = message.if_contains("content"); text && text->is_string())
      check_text(f, "messages", std::string_view(text->get_string()));
    out.push_back(std::move(message));
  }
  return out;
}

void read_logit_bias(Fields& f, const Bounds& bounds, SamplingParams& s) {
  const auto* v = f.take("logit_bias");
  if (!v) return;
  const auto bad = [&](std::string message) {
    f.violation("logit_bias", fmt::format("token ids below {}, values range(-100..=100)", bounds.vocab),
                std::move(message));
  };
  if (!v->is_object()) return bad("logit_bias must be an object from token ids to numbers");
  if (v->get_object().size() > SamplingParams::kBiasesMax)
    return bad(fmt::format("logit_bias has at most {} entries", SamplingParams::kBiasesMax));
  for (const auto& [key, value] : v->get_object()) {
    const auto id = parse_integer(std::string_view(key), 0, bounds.vocab - 1);
    if (!id || !value.is_number() || !(std::abs(value.to_number<double>()) <= 100))
      return bad("logit_bias has an entry out of range");
    s.logit_bias.emplace_back(*id, value.to_number<double>());
  }
}

/// The number of an adapter; -1, with a violation, where there is none of that name.
int find_adapter(Fields& f, std::string_view field, std::string_view name, const Bounds& bounds) {
  const auto found = std::ranges::find(bounds.adapters, name);
  if (found != bounds.adapters.end()) return static_cast<int>(found - bounds.adapters.begin());
  const std::string there = bounds.adapters.empty() ? "none" : fmt::format("{}", fmt::join(bounds.adapters, ", "));
  f.violation(field, "an adapter that is served here",
              fmt::format("{} names an adapter that is not served here (there are: {})", field, there),
              ErrorCode::kModelNotFound);
  return -1;
}

void read_lora(Fields& f, const Bounds& bounds, Generation& g) {
  const auto lora = f.text("lora", 64);
  if (!lora || lora->empty()) return;
  const int found = find_adapter(f, "lora", *lora, bounds);
  if (g.adapter >= 0 && found >= 0 && found != g.adapter)
    f.violation("lora", "the adapter of model", "lora and model name different adapters");
  g.adapter = found;
}

/// "model" or "model:adapter"; and `lora`.
void read_model(Fields& f, const Bounds& bounds, Generation& g) {
  const auto model = f.text("model", 512);
  if (model && model->starts_with(bounds.model + ":") && !bounds.adapters.empty())
    g.adapter = find_adapter(f, "model", std::string_view(*model).substr(bounds.model.size() + 1), bounds);
  else if (model && !model->empty() && *model != bounds.model && bounds.strict_model)
    f.violation("model", "a model that is served here", "the model is not served here", ErrorCode::kModelNotFound);
  read_lora(f, bounds, g);
}

/// A field whose feature is not built yet: only its neutral values pass.
void only(Fields& f, std::string_view name, std::initializer_list<boost::json::value> neutral) {
  const auto* v = f.take(name);
  if (!v || std::ranges::find(neutral, *v) != neutral.end()) return;
  f.violation(name, "not supported", fmt::format("{} is not supported with this value", name),
              ErrorCode::kUnsupportedValue);
}

/// OpenAI's field and ours: each parts what the other leaves together.
std::string read_cache_salt(Fields& f) {
  const auto salt = f.text("cache_salt", kSaltBytesMax), key = f.text("prompt_cache_key", kSaltBytesMax);
  return key ? fmt::format("{}:{}{}", key->size(), *key, salt.value_or("")) : salt.value_or("");
}

void read_openai(Fields& f, const Bounds& bounds, CompletionRequest& r) {
  read_model(f, bounds, r);
  read_sampling(f, bounds, r);
  if (const auto again = f.number("repeat_penalty", 1e-9, 2, "range(0.0<..=2.0)"))
    r.sampling.repetition_penalty = *again;
  read_logit_bias(f, bounds, r.sampling);
  r.n = static_cast<int>(f.integer("n", 1, limits::kChoicesMax).value_or(1));
  r.stream = f.boolean("stream").value_or(false);
  if (const auto* options = f.take("stream_options")) {
    if (!options->is_object()) {
      f.violation("stream_options", "object", "stream_options must be an object");
    } else {
      Fields inner(options->get_object());
      r.include_usage = inner.boolean("include_usage").value_or(false);
      for (const Violation& v : inner.violations()) f.violation("stream_options." + v.field, v.constraint, v.message);
      if (!r.stream) f.violation("stream_options", "with stream only", "stream_options is only allowed with stream");
    }
  }
  r.progress = f.boolean("return_progress").value_or(false);
  if (r.progress && !r.stream)
    f.violation("return_progress", "with stream only", "return_progress is only allowed with stream");
  r.cache_salt = read_cache_salt(f);
  if (const auto* truncation = f.take("truncation")) {
    r.truncate = *truncation == "auto";
    if (!r.truncate && *truncation != "disabled")
      f.violation("truncation", "auto or disabled", "truncation must be auto or disabled",
                  ErrorCode::kUnsupportedValue);
  }
  f.text("user", 1024), f.text("safety_identifier", 1024);
  f.take("metadata"), f.take("service_tier");
  only(f, "store", {false});
}

/// Takes `prefix` off messages: whether the last one has it.
bool take_prefix(Fields& f, boost::json::array& messages) {
  bool found = false;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    auto& message = messages[i].get_object();
    const auto* v = message.if_contains("prefix");
    if (!v) continue;
    const bool last = i + 1 == messages.size() && message.contains("role") && message.at("role") == "assistant";
    if (!v->is_bool() || (v->get_bool() && !last))
      f.violation(fmt::format("messages[{}].prefix", i), "bool, of the last message",
                  "prefix is true or false, and true only of a last message of the assistant");
    found = found || (last && *v == true);
    message.erase("prefix");
  }
  return found;
}

/// Whether an answer begins behind the messages, or the last of them goes on.
void read_ending(Fields& f, CompletionRequest& r) {
  const auto add = f.boolean("add_generation_prompt"), goes_on = f.boolean("continue_final_message");
  const bool prefix = take_prefix(f, r.messages);
  r.continues = goes_on.value_or(prefix);
  r.begins_answer = add.value_or(!r.continues);
  if (!r.continues || r.messages.empty()) return;
  const std::string field =
      goes_on ? "continue_final_message" : fmt::format("messages[{}].prefix", r.messages.size() - 1);
  const auto bad = [&](std::string_view why) {
    f.violation(field, "a last message of the assistant", fmt::format("{}: {}", field, why));
  };
  const auto& last = r.messages.back().get_object();
  const auto *role = last.if_contains("role"), *content = last.if_contains("content");
  const bool text = content && content->is_string() && !content->get_string().empty();
  const auto* calls = last.if_contains("tool_calls");
  const bool called = calls && !(calls->is_array() && calls->get_array().empty());
  if (!role || *role != "assistant" || !text || called)
    bad("the last message must be the assistant's, a text and no call of a tool");
  if (r.begins_answer) bad("not together with add_generation_prompt");
  if (r.structure.kind != Structure::Kind::kNone) bad("not together with " + r.structure.field);
  if (r.tool_use.choice == ToolUse::Choice::kRequired) bad("not together with a call that tool_choice asks for");
}

template<class Request>
std::expected<Request, Refused> finish(Fields& f, Request&& r) {
  r.ignored = f.unknown();
  if (!f.violations().empty()) return std::unexpected(Refused{f.violations()});
  return std::move(r);
}

/// A string, token ids, or a list of either, under the name `field`.
void read_prompts(Fields& f, std::string_view field, std::vector<Prompt>& out, const Bounds& bounds) {
  const auto* v = f.take(field);
  const auto bad = [&](std::string_view message) {
    f.violation(field, "string, token ids, or up to 64 of either", fmt::format("{} {}", field, message));
  };
  if (!v) return bad("is required");
  const auto one = [&](const boost::json::value& p) {
    if (p.is_string()) {
      check_text(f, field, std::string_view(p.get_string()));
      if (p.get_string().empty()) return bad("must not be empty");
      out.emplace_back(std::string(p.get_string()));
      return;
    }
    if (!p.is_array() || p.get_array().empty()) return bad("must be a string or an array of token ids");
    Tokens ids;
    for (const auto& id : p.get_array()) {
      if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() >= bounds.vocab)
        return bad(fmt::format("has an entry that is no token id (0 to {})", bounds.vocab - 1));
      ids.push_back(static_cast<std::int32_t>(id.get_int64()));
    }
    out.emplace_back(std::move(ids));
  };
  const bool several = v->is_array() && !v->get_array().empty() && !v->get_array()[0].is_int64();
  if (!several) return one(*v);
  if (v->get_array().size() > 64) return bad("has at most 64 entries");
  for (const auto& p : v->get_array()) one(p);
}

/// How much a model thinks. Templates have names of their own for it; what the client gives by chat_template_kwargs
/// stands.
void read_reasoning(Fields& f, CompletionRequest& r) {
  const auto set = [&](std::string_view name, const boost::json::value& v) {
    if (!r.template_arguments.contains(name)) r.template_arguments[name] = v;
  };
  const auto turn = [&](bool on) { set("enable_thinking", on), set("thinking", on); };
  if (const auto effort = f.text("reasoning_effort", 16)) {
    static constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
    if (std::ranges::find(kEfforts, *effort) == std::end(kEfforts))
      return f.violation("reasoning_effort", "none, minimal, low, medium, high or xhigh",
                         "reasoning_effort has an unsupported value", ErrorCode::kUnsupportedValue);
    turn(*effort != "none");
    set("reasoning_effort", boost::json::value(*effort));
  }
  // Servers differ in its name; -1 is no limit.
  std::optional<std::int64_t> budget;
  for (const char* name : {"thinking_budget", "reasoning_budget", "thinking_budget_tokens"}) {
    const auto tokens = f.integer(name, -1, limits::kContextMax);
    if (!tokens) continue;
    if (budget && *budget != *tokens)
      f.violation(name, "equal to " + r.thought_field, fmt::format("{} and {} differ", r.thought_field, name));
    budget = tokens, r.thought_field = name;
  }
  if (!budget) return;
  if (*budget >= 0) r.thought_tokens = static_cast<int>(*budget);
  if (*budget == 0) turn(false);
}

}  // namespace

std::expected<InferenceRequest, Refused> read_inference(const boost::json::object& body, const Bounds& bounds) {
  Fields f(body);
  InferenceRequest r;
  only(f, "tools", {boost::json::array()}), only(f, "tool_choice", {"none"});  // this route has no events for calls
  f.take("job_id");                                                            // ids are the server's (J-11)
  read_lora(f, bounds, r);
  read_sampling(f, bounds, r);
  read_logit_bias(f, bounds, r.sampling);
  if (const auto max = read_most_tokens(f, "max_tokens", 1, bounds.max_tokens_out)) r.max_tokens = *max;
  r.resumable = f.boolean("resumable").value_or(false);
  r.cache_salt = f.text("cache_salt", kSaltBytesMax).value_or("");
  r.logprobs = f.boolean("logprobs").value_or(false);
  const auto top = f.integer("top_logprobs", 0, 20);
  if (top && !r.logprobs) f.violation("top_logprobs", "with logprobs only", "top_logprobs needs logprobs");
  if (r.logprobs) r.sampling.top_logprobs = static_cast<int>(top.value_or(0));
  const auto* messages = f.take("messages");
  const auto* prompt = f.take("prompt");
  if ((messages != nullptr) == (prompt != nullptr)) {
    f.violation("prompt", fmt::format("length(1..={})", kPromptPointsMax),
                "exactly one of prompt and messages is required");
  } else if (prompt) {
    const bool fits = prompt->is_string() && !prompt->get_string().empty() &&
                      has_points_at_most(prompt->get_string(), kPromptPointsMax);
    if (fits)
      r.prompt = std::string(prompt->get_string());
    else
      f.violation("prompt", fmt::format("length(1..={})", kPromptPointsMax),
                  fmt::format("prompt must be a string of 1 to {} characters", kPromptPointsMax));
    check_text(f, "prompt", r.prompt);
  } else {
    r.messages = read_messages(f, *messages);
  }
  return finish(f, std::move(r));
}

std::expected<CompletionRequest, Refused> read_chat(const boost::json::object& body, const Bounds& bounds) {
  Fields f(body);
  CompletionRequest r;
  r.chat = true;
  read_openai(f, bounds, r);
  for (const char* name : {"max_tokens", "max_completion_tokens"})  // the newer name wins
    if (const auto max = read_most_tokens(f, name, 1, kTokensUnbounded); max || f.take(name)) r.max_tokens = max;
  r.logprobs = f.boolean("logprobs").value_or(false);
  const auto top = f.integer("top_logprobs", 0, 20);
  if (top && !r.logprobs) f.violation("top_logprobs", "with logprobs only", "top_logprobs needs logprobs");
  if (r.logprobs) r.sampling.top_logprobs = static_cast<int>(top.value_or(0));
  if (const auto* messages = f.take("messages"))
    r.messages = read_messages(f, *messages);
  else
    f.violation("messages", "required", "messages is required");
  if (const auto* arguments = f.take("chat_template_kwargs")) {
    if (arguments->is_object())
      r.template_arguments = arguments->get_object();
    else
      f.violation("chat_template_kwargs", "object", "chat_template_kwargs must be an object");
    for (const char* name : {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "raise_exception",
                             "strftime_now", "range", "namespace", "dict"})
      if (r.template_arguments.contains(name))
        f.violation("chat_template_kwargs", "no reserved name",
                    fmt::format("chat_template_kwargs must not set {}", name));
  }
  read_reasoning(f, r);
  r.tool_use = read_tool_use(f);
  read_ending(f, r);
  for (const char* name :
       {"functions", "function_call", "audio", "modalities", "prediction", "web_search_options", "verbosity"})
    only(f, name, {});
  return finish(f, std::move(r));
}

std::expected<EmbeddingRequest, Refused> read_embedding(const boost::json::object& body, const Bounds& bounds) {
  Fields f(body);
  EmbeddingRequest r;
  read_model(f, bounds, r);
  read_prompts(f, "input", r.prompts, bounds);
  if (const auto format = f.text("encoding_format", 16)) {
    r.base64 = *format == "base64";
    if (!r.base64 && *format != "float")
      f.violation("encoding_format", "float or base64", "encoding_format must be float or base64",
                  ErrorCode::kUnsupportedValue);
  }
  if (f.take("dimensions"))
    f.violation("dimensions", "not supported", "this model's embeddings cannot be shortened",
                ErrorCode::kUnsupportedValue);
  r.cache_salt = read_cache_salt(f);
  f.text("user", 1024);
  if (const auto deadline = f.integer("deadline_ms", 1, std::int64_t{1} << 40)) r.deadline_ms = deadline;
  return finish(f, std::move(r));
}

std::expected<CompletionRequest, Refused> read_completion(const boost::json::object& body, const Bounds& bounds) {
  Fields f(body);
  CompletionRequest r;
  read_openai(f, bounds, r);
  r.max_tokens = f.take("max_tokens") ? read_most_tokens(f, "max_tokens", 0, kTokensUnbounded) : kCompletionTokens;
  if (const auto logprobs = f.integer("logprobs", 0, 20)) {
    r.logprobs = true;
    r.sampling.top_logprobs = static_cast<int>(*logprobs);
  }
  r.echo = f.boolean("echo").value_or(false);
  constexpr int kEchoesMax = 8;  // each a copy of the prompt, of up to 8 MB
  if (r.echo && r.n > kEchoesMax)
    f.violation("n", fmt::format("range(1..={})", kEchoesMax), fmt::format("with echo, n is at most {}", kEchoesMax));
  if (r.scores_prompt() && r.structure.kind != Structure::Kind::kNone)
    f.violation("echo", "not with logprobs and " + r.structure.field,
                "echo with logprobs is for prompts: it cannot be combined with " + r.structure.field,
                ErrorCode::kUnsupportedValue);
  if (r.scores_prompt() && r.truncate)
    f.violation("echo", "not with logprobs and truncation",
                "echo with logprobs is for whole prompts: not with truncation", ErrorCode::kUnsupportedValue);
  only(f, "suffix", {""});
  if (const auto best = f.integer("best_of", 1, limits::kChoicesMax); best && *best != r.n)
    f.violation("best_of", "equal to n", "best_of other than n is not supported", ErrorCode::kUnsupportedValue);
  read_prompts(f, "prompt", r.prompts, bounds);
  return finish(f, std::move(r));
}

std::expected<TokenizeRequest, Refused> read_tokenize(const boost::json::object& body, const Bounds& bounds) {
  Fields f(body);
  TokenizeRequest r;
  const auto* content = f.take("content");  // llama.cpp's server
  const auto* prompt = f.take("prompt");    // vLLM
  const auto* text = f.take("text");
  const auto* messages = f.take("messages");
  const std::pair<const char*, const boost::json::value*> texts[] = {
      {"content", content}, {"prompt", prompt}, {"text", text}};
  if ((content != nullptr) + (prompt != nullptr) + (text != nullptr) + (messages != nullptr) != 1)
    f.violation("content", "required", "exactly one of content, prompt, text and messages is required");
  for (const auto& [field, value] : texts) {
    if (!value) continue;
    if (!value->is_string())
      f.violation(field, "string", fmt::format("{} must be a string", field));
    else
      r.text = std::string(value->get_string()), check_text(f, field, r.text);
  }
  const auto add = f.boolean("add_special"), also_add = f.boolean("add_special_tokens");
  r.add_special = add.value_or(also_add.value_or(content == nullptr));
  r.parse_special = f.boolean("parse_special").value_or(true);
  r.pieces = f.boolean("with_pieces").value_or(false);
  r.strings = f.boolean("return_token_strs").value_or(false);
  read_cache_salt(f);
  if (!messages) {
    read_model(f, bounds, r);
    if (const auto deadline = f.integer("deadline_ms", 1, std::int64_t{1} << 40)) r.deadline_ms = deadline;
    return finish(f, std::move(r));
  }
  if (!f.violations().empty()) return std::unexpected(Refused{f.violations()});
  boost::json::object chat = body;  // the rest is a chat's
  for (const char* own : {"add_special", "add_special_tokens", "parse_special", "with_pieces", "return_token_strs"})
    chat.erase(own);
  auto read = read_chat(chat, bounds);
  if (!read) return std::unexpected(std::move(read).error());
  r.ignored = std::move(read->ignored), r.deadline_ms = read->deadline_ms, r.adapter = read->adapter;
  r.chat = *std::move(read);
  return r;
}

std::expected<DetokenizeRequest, Refused> read_detokenize(const boost::json::object& body, const Bounds& bounds) {
  Fields f(body);
  DetokenizeRequest r;
  read_model(f, bounds, r);
  read_cache_salt(f);
  const auto bad = [&](std::string message) { f.violation("tokens", "token ids", std::move(message)); };
  const auto* tokens = f.take("tokens");
  if (!tokens || !tokens->is_array()) {
    bad("tokens must be an array of token ids");
  } else {
    for (const auto& id : tokens->get_array()) {
      if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() >= bounds.vocab) {
        bad(fmt::format("tokens has an entry that is no token id (0 to {})", bounds.vocab - 1));
        break;
      }
      r.tokens.push_back(static_cast<std::int32_t>(id.get_int64()));
    }
  }
  if (const auto deadline = f.integer("deadline_ms", 1, std::int64_t{1} << 40)) r.deadline_ms = deadline;
  return finish(f, std::move(r));
}

std::expected<RerankRequest, Refused> read_rerank(const boost::json::object& body, const Bounds& bounds) {
  constexpr std::size_t kDocumentsMax = 1024;
  Fields f(body);
  RerankRequest r;
  read_model(f, bounds, r);
  read_cache_salt(f);
  if (auto query = f.text("query", std::size_t{1} << 20); query && !query->empty())
    r.query = *std::move(query), check_text(f, "query", r.query);
  else
    f.violation("query", "non-empty string", "query must be a string that is not empty");
  const auto* documents = f.take("documents");
  const bool listed = documents && documents->is_array() && !documents->get_array().empty() &&
                      documents->get_array().size() <= kDocumentsMax;
  if (!listed)
    f.violation("documents", fmt::format("length(1..={})", kDocumentsMax),
                fmt::format("documents must be an array of 1 to {} texts", kDocumentsMax));
  for (std::size_t i = 0; listed && i < documents->get_array().size(); ++i) {
    const auto& given = documents->get_array()[i];
    const auto* text = given.is_object() ? given.get_object().if_contains("text") : &given;
    if (text && text->is_string())
      r.documents.emplace_back(text->get_string());
    else
      f.violation(fmt::format("documents[{}]", i), "string, or object with text",
                  "a document must be a string or an object with text");
  }
  if (const auto top = f.integer("top_n", 1, std::int64_t{1} << 31))
    r.top_n = static_cast<int>(std::min<std::int64_t>(*top, static_cast<std::int64_t>(kDocumentsMax)));
  r.return_documents = f.boolean("return_documents").value_or(false);
  f.text("user", 1024);
  if (const auto deadline = f.integer("deadline_ms", 1, std::int64_t{1} << 40)) r.deadline_ms = deadline;
  return finish(f, std::move(r));
}

}  // namespace llorch::wire
