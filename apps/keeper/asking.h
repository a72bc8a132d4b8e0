// Flags of a question to a model, and one question asked: shared by run, infer and chat.
#pragma once

#include <optional>

#include "keeper/session.h"

namespace llorch::keeper {

struct Question {
  std::string model, hive, device, kind, worker_id, priority;
  std::string schema, regex, grammar;  // what the answer must look like; schema and grammar are files
  bool raw = false, no_stream = false, ignore_eos = false;
  std::optional<int> max_tokens, top_k, top_logprobs;
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> stop;

  void add(CLI::App& app);
  /// The order for the queen; `prompt` or `messages` is still to be put in. Errors: a file cannot be read, or is no
  /// JSON.
  [[nodiscard]] Result<boost::json::object> order() const;
};

/// Asks, prints, and says how it went. Returns the exit code; `answer` gets the text.
[[nodiscard]] int ask_once(Session& session, const Common& common, boost::json::object order,
                           std::string* answer = nullptr);
/// A conversation on a terminal until its end.
[[nodiscard]] int converse(Session& session, const Common& common, const Question& question);

}  // namespace llorch::keeper
