// Takes a model's answer apart while it comes: what it thinks, what it says, which tools it calls.
//
// One stream of items, from which each API writes its own events. A call is kCall, its arguments in pieces, kCallEnd.
//
// Where calls are held to their grammar, they come as the model writes them: only the end of the answer can break one
// off, which then ends with `complete` false. Elsewhere a call comes when it is whole and its arguments are a JSON
// object; one that is cut off or malformed comes as the text that the model wrote (J-59). So do calls of a request with
// stop strings, and of a format that writes a call's id behind its arguments. Threads: one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/parser.h"
#include "wire/requests.h"
#include "worker/model_facts.h"
#include "worker/reasoning.h"

namespace llorch::worker {

struct AnswerItem {
  enum class Kind : std::uint8_t { kText, kReasoning, kCall, kArguments, kCallEnd };
  Kind kind = Kind::kText;
  std::string text;      // of kArguments: a piece of a JSON object
  std::string name, id;  // of kCall
  bool complete = true;  // of kCallEnd
};
using AnswerItems = std::vector<AnswerItem>;

class AnswerReader {
 public:
  /// `prompt_end`: as Reasoning takes it. Where no tool may be called, calls are text.
  AnswerReader(const ModelFacts& model, std::string_view prompt_end, const wire::CompletionRequest& request);

  /// `text` of the next token; `control`: its spelling where it is a control token.
  [[nodiscard]] AnswerItems push(std::string_view text, std::string_view control);
  [[nodiscard]] AnswerItems finish();
  [[nodiscard]] bool thinking() const { return reasoning_.thinking(); }

 private:
  void think(const Reasoning::Parts& parts, AnswerItems& out);
  void say(std::string_view text, std::string_view control, AnswerItems& out);
  void take(tools::Items items, AnswerItems& out);
  void begin_call(tools::Item& begin, AnswerItems& out);
  void end_call(const tools::Item& end, AnswerItems& out);

  bool channels_, streams_;  // streams_: calls come as they are written
  Reasoning reasoning_;
  std::optional<tools::ToolCallParser> calls_;
  AnswerItem call_;      // under way, while it is kept: with its arguments
  std::string written_;  // since the last call or text that came out
};

}  // namespace llorch::worker
