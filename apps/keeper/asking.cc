#include "keeper/asking.h"

#include <fstream>
#include <limits>
#include <optional>

#include <unistd.h>

#include "base/ids.h"
#include "base/nearest.h"
#include "base/output_file.h"
#include "base/status_line.h"
#include "daemon_flags.h"
#include "format/json.h"
#include "gives_no_text.h"
#include "keeper/answer_view.h"
#include "keeper/given_file.h"
#include "keeper/hints.h"
#include "keeper/parts.h"
#include "keeper/tool_file.h"
#include "number_flags.h"

namespace llorch::keeper {
namespace {

template<class T>
void put(boost::json::object& o, const char* name, const std::optional<T>& value) {
  if (value) o[name] = *value;
}

/// What had come before an answer broke off is not lost (K-06).
void keep_partial(const Common& common, const std::string& text) {
  if (text.empty()) return;
  const std::string folder = cli::state_directory();
  if (!cli::make_private_directory(folder)) return;
  const std::string path = folder + "/partial-" + random_hex(4) + ".txt";
  std::ofstream(path) << text;
  if (!common.json) show(stderr, "what had come so far is in %s\n", path.c_str());
}

}  // namespace

void Question::add(CLI::App& app) {
  app.add_option("--hive", hive, "on this hive");
  app.add_option("--device", device, "on this device: cpu, gpu (any GPU), or gpu0, which is cuda:0");
  app.add_option("--kind", kind, "by this kind of worker: cpu, accelerate, cuda");
  app.add_option("--worker-id", worker_id, "by this worker: its id, or hive/id as `llorch status` has it");
  app.add_option("--priority", priority, "interactive or batch")->check(CLI::IsMember({"interactive", "batch"}));
  app.add_flag("--raw", raw, "the prompt goes to the model as it is, without its chat template");
  app.add_flag("--no-stream", no_stream, "print the answer when it is whole");
  app.add_option("--max-tokens,-n", max_tokens, "of the answer; -1: until the model ends it")
      ->check(cli::some_or_unlimited("tokens", std::numeric_limits<int>::max()));
  app.add_option("--temperature", temperature)->check(cli::number_between(0, 2));
  app.add_option("--top-p", top_p)->check(cli::number_between(0, 1));
  app.add_option("--min-p", min_p)->check(cli::number_between(0, 1));
  app.add_option("--top-k", top_k)->check(CLI::Range(0, 1 << 21));
  app.add_option("--repetition-penalty", repetition_penalty)->check(cli::number_between(0, 2, true));
  app.add_option("--presence-penalty", presence_penalty)->check(cli::number_between(-2, 2));
  app.add_option("--frequency-penalty", frequency_penalty)->check(cli::number_between(-2, 2));
  app.add_option("--seed", seed)->check(cli::whole_number());
  app.add_option("--stop", stop, "end before this text; at most sixteen")->allow_extra_args(false);
  app.add_flag("--ignore-eos", ignore_eos, "go on after the model's end token");
  app.add_flag("--show-thoughts", show_thoughts,
               "show what the model thinks before it answers; where stdout is no terminal, on stderr");
  auto* as_schema =
      app.add_option("--schema", schema, "a JSON schema, or a file with one: the answer is JSON that it accepts");
  auto* as_regex = app.add_option("--regex", regex, "a pattern that the whole answer matches")->excludes(as_schema);
  app.add_option("--grammar", grammar, "a file with a GBNF grammar for the answer")
      ->excludes(as_schema)
      ->excludes(as_regex);
}

void Question::add_tools(CLI::App& app) {
  auto* file = app.add_option(
      "--tools", tools,
      "a file with tools that the model may call, as JSON: a list of tools as chat completions "
      "take them, or of functions; calls are printed, and a conversation asks for their results. - is stdin");
  app.add_option("--tool-choice", tool_choice, "auto, required, none or the name of a tool that must be called")
      ->needs(file);
}

void Question::add_receipt(CLI::App& app) {
  auto* option = app.add_option(
      "--receipt", receipt, "write a receipt of the answer here, by which `llorch receipt verify` computes it again");
  for (const char* none : {"--tools", "--schema", "--regex", "--grammar"}) option->excludes(none);
}

namespace {

/// What the answer must look like, in the words of a request.
Status put_structure(const Question& q, boost::json::object& o) {
  constexpr std::size_t kFileMax = 4u << 20;
  if (!q.schema.empty()) {
    const bool typed = q.schema.find_first_not_of(" \t\n") == q.schema.find('{');  // no file's name begins so
    std::string text = q.schema;
    if (!typed) {
      LLORCH_TRY(text, read_given_file(q.schema, kFileMax));
    }
    LLORCH_TRY(boost::json::value schema, json::parse(text, typed ? "the schema" : q.schema));
    o["response_format"] = {{"type", "json_schema"},
                            {"json_schema", {{"name", "answer"}, {"schema", std::move(schema)}}}};
  }
  if (!q.regex.empty()) o["regex"] = q.regex;
  if (!q.grammar.empty()) {
    LLORCH_TRY(const std::string text, read_given_file(q.grammar, kFileMax));
    o["grammar"] = text;
  }
  return {};
}

}  // namespace

Result<boost::json::object> Question::order() const {
  boost::json::object o{{"operation", "infer"}, {"model", model}};
  for (const auto& [name, value] : {std::pair("hive_id", &hive), std::pair("device", &device), std::pair("kind", &kind),
                                    std::pair("priority", &priority)})
    if (!value->empty()) o[name] = *value;
  if (!worker_id.empty()) name_worker(worker_id, o);
  if (raw) o["raw"] = true;
  if (no_stream) o["stream"] = false;
  if (ignore_eos) o["ignore_eos"] = true;
  if (!receipt.empty()) o["receipt"] = true;
  put(o, "max_tokens", max_tokens), put(o, "temperature", temperature), put(o, "top_p", top_p), put(o, "min_p", min_p),
      put(o, "top_k", top_k);
  put(o, "repetition_penalty", repetition_penalty), put(o, "presence_penalty", presence_penalty),
      put(o, "frequency_penalty", frequency_penalty);
  put(o, "seed", seed);
  if (!stop.empty()) o["stop"] = boost::json::array(stop.begin(), stop.end());
  LLORCH_OK(put_structure(*this, o));
  return o;
}

Result<boost::json::object> chat_with_tools(const Question& question) {
  LLORCH_TRY(boost::json::array tools, read_tools(question.tools));
  LLORCH_TRY(boost::json::object body, question.order());
  for (const auto& [field, flag] :
       {std::pair("hive_id", "--hive"), std::pair("kind", "--kind"), std::pair("worker_id", "--worker-id"),
        std::pair("priority", "--priority"), std::pair("raw", "--raw")})
    if (body.contains(field))
      return fail(ErrorCode::kInvalidRequest, "--tools and {}: chat completions, which take tools, do not know it",
                  flag);
  body.erase("operation"), body.erase("stream");
  if (!question.tool_choice.empty()) {
    LLORCH_TRY(body["tool_choice"], tool_choice(question.tool_choice, tools));
  }
  body["tools"] = std::move(tools);
  return body;
}

Ask ask_job(boost::json::object order) {
  return [order = std::move(order)](Session& session, const OnEvent& on_event) { return session.run(order, on_event); };
}

Ask ask_chat(boost::json::object body) {
  return [body = std::move(body)](Session& session, const OnEvent& on_event) -> Result<Outcome> {
    // A chat completion says nothing until its worker answers, and a model may have to be fetched for it.
    boost::json::object order{{"operation", "model_load"}, {"model", body.at("model")}};
    if (const auto* device = body.if_contains("device")) order["device"] = *device;
    const auto loaded = session.run(order, [&](std::string_view type, const boost::json::object& data) {
      if (type == "narration" || type == "progress") on_event(type, data);
    });
    // A key of scope infer may ask the model, and not load it.
    if (!loaded && loaded.error().code != ErrorCode::kForbidden) return loaded;
    if (loaded && loaded->interrupted) return loaded;
    return session.chat(body, on_event);
  };
}

namespace {

std::vector<std::string> names_of_models(Session& session) {
  std::vector<std::string> names;
  const auto answer = session.call("GET", "/v1/models");
  const auto* list = answer && answer->is_object() ? answer->get_object().if_contains("data") : nullptr;
  if (!list || !list->is_array()) return names;
  for (const auto& model : list->get_array())
    if (model.is_object())
      if (auto id = json::find_text(model.get_object(), "id")) names.push_back(*std::move(id));
  return names;
}

}  // namespace

namespace {

boost::json::object call_of_message(const boost::json::object& call) {
  const auto* arguments = call.if_contains("arguments");
  const auto* text = arguments ? arguments->if_string() : nullptr;  // it broke off
  return {{"id", json::find_text(call, "id").value_or("")},
          {"type", "function"},
          {"function",
           {{"name", json::find_text(call, "name").value_or("")},
            {"arguments", text        ? std::string(*text)
                          : arguments ? boost::json::serialize(*arguments)
                                      : "{}"}}}};
}

}  // namespace

Result<Answered> ask_and_show(Session& session, const Common& common, const Question& question, const Ask& ask) {
  Answered answered;
  boost::json::array calls;
  const OnEvent print = printer(common);
  AnswerView view({.show_thoughts = question.show_thoughts, .whole = question.no_stream});
  const auto outcome = ask(session, [&](std::string_view type, const boost::json::object& data) {
    answered.text += piece_of(type, data).content;
    if (type == "call") calls.push_back(call_of_message(data));
    if (common.json) return print(type, data);
    if (type == "narration" || type == "progress") return view.tell(type, data, print);
    view.take(type, data);
  });
  if (!common.json) view.end(print);
  std::fflush(stdout);
  if (!outcome) {
    keep_partial(common, answered.text);
    Error error = outcome.error();
    if (error.code == ErrorCode::kModelNotFound && !error.message.contains("did you mean"))  // the queen may have asked
      error.message += did_you_mean(question.model, names_of_models(session));
    if (error.code == ErrorCode::kChatTemplateMissing || error.message.contains(kGivesNoText))
      error.message = question.model + ": " + error.message;
    return std::unexpected(std::move(error));
  }
  answered.interrupted = outcome->interrupted, answered.end = outcome->end;
  answered.message = {{"role", "assistant"}, {"content", answered.text}};
  if (!calls.empty()) answered.message["tool_calls"] = std::move(calls);
  return answered;
}

void tell_cut(const Common& common, const boost::json::object& end) {
  if (common.quiet || common.json) return;
  const std::string reason =
      json::find_text(end, "stop_reason").value_or(json::find_text(end, "finish_reason").value_or(""));
  const auto taken =
      json::find_unsigned(end, "tokens_in").value_or(0) + json::find_unsigned(end, "tokens_out").value_or(0);
  const auto context = json::find_unsigned(end, "context").value_or(0);
  if (context > 0 && taken >= context)
    show_dim_line(stderr, fmt::format("the answer was cut: the model's window of {} tokens is full", context));
  else if (reason == "MAX_TOKENS" || reason == "length")
    show_dim_line(stderr, fmt::format("the answer was cut after {} tokens: -n -1 lets the model end it",
                                      json::find_unsigned(end, "tokens_out").value_or(0)));
}

namespace {

Status write_receipt(const std::string& path, const boost::json::object& end) {
  const auto* receipt = json::find_object(end, "receipt");
  if (!receipt) return fail(ErrorCode::kUnsupportedValue, "--receipt: the worker gave none, it may be an older one");
  return replace_with_text(path, boost::json::serialize(*receipt) + "\n");
}

}  // namespace

int ask_once(Session& session, const Common& common, const Question& question, const Ask& ask) {
  const auto answered = ask_and_show(session, common, question, ask);
  if (!answered) return complain(common, answered.error());
  if (answered->interrupted) return 130;
  if (!question.receipt.empty())
    if (const Status s = write_receipt(question.receipt, answered->end); !s) return complain(common, s.error());
  if (isatty(STDERR_FILENO) == 1) tell_cut(common, answered->end);  // what scripts keep of stderr is as it was
  return 0;
}

}  // namespace llorch::keeper
