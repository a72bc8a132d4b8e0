// Flags of a question to a model, and one question asked: shared by run, infer and chat.
#pragma once

#include <optional>

#include "keeper/session.h"

namespace llorch::keeper {

struct Question {
  std::string model, hive, device, kind, worker_id, priority;
  std::string schema, regex, grammar;  // what the answer must look like; schema: JSON or a file; grammar: a file
  std::string tools, tool_choice;      // a file; a word or a name
  std::string receipt;                 // a file that is written
  bool raw = false, no_stream = false, ignore_eos = false, show_thoughts = false;
  std::optional<int> max_tokens, top_k, top_logprobs;
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> stop;

  void add(CLI::App& app);
  /// The flags of a question that may be answered by calls of tools.
  void add_tools(CLI::App& app);
  /// The flag of one question whose answer can be computed again; after add_tools().
  void add_receipt(CLI::App& app);
  /// The order for the queen; `prompt` or `messages` is still to be put in. Errors: a file cannot be read, or is no
  /// JSON.
  [[nodiscard]] Result<boost::json::object> order() const;
};

/// A question in the form of a chat completion, whose answer may be calls of tools; `messages` is still to be put in.
/// Errors: kInvalidRequest for tools that cannot be read, and for flags that chat completions do not know.
[[nodiscard]] Result<boost::json::object> chat_with_tools(const Question& question);

/// Asks a session; events go to the second.
using Ask = std::function<Result<Outcome>(Session& session, const OnEvent& on_event)>;
[[nodiscard]] Ask ask_job(boost::json::object order);
/// Sees to it that the model is loaded, which is told, before it is asked.
[[nodiscard]] Ask ask_chat(boost::json::object body);

/// An answer that was shown.
struct Answered {
  std::string text;             // without thoughts
  boost::json::object message;  // of the assistant: the text and the calls of tools
  boost::json::object end;      // the event, as Outcome has it
  bool interrupted = false;     // by Ctrl-C: the text is what had come
};

/// Asks and shows the answer. Errors: of the session; what had come is kept in a file, which is named.
[[nodiscard]] Result<Answered> ask_and_show(Session& session, const Common& common, const Question& question,
                                            const Ask& ask);
/// Says beside an answer that it was cut by a limit on its tokens, or by the model's context. `end`: the event.
void tell_cut(const Common& common, const boost::json::object& end);
/// The same; shows errors, too. Returns the exit code.
[[nodiscard]] int ask_once(Session& session, const Common& common, const Question& question, const Ask& ask);

}  // namespace llorch::keeper
