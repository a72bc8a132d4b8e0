// Takes a model's answer apart while it comes: what it thinks, what it says, which tools it calls.
//
// One stream of items, from which each API writes its own events. A call comes as one item, when it is whole and its
// arguments are JSON; one that is cut off or malformed comes as the text that the model wrote (J-59). Threads: one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/parser.h"
#include "worker/model_facts.h"
#include "worker/reasoning.h"

namespace llorch::worker {

struct AnswerItem {
  enum class Kind : std::uint8_t { kText, kReasoning, kCall };
  Kind kind = Kind::kText;
  std::string text;      // of kCall: the arguments, a JSON object
  std::string name, id;  // of kCall
};
using AnswerItems = std::vector<AnswerItem>;

class AnswerReader {
 public:
  /// `prompt_end`: as Reasoning takes it. `tools`: those that may be called; empty: calls are text.
  AnswerReader(const ModelFacts& model, std::string_view prompt_end, std::vector<tools::DeclaredTool> tools);

  /// `text` of the next token; `control`: its spelling where it is a control token.
  [[nodiscard]] AnswerItems push(std::string_view text, std::string_view control);
  [[nodiscard]] AnswerItems finish();
  [[nodiscard]] bool thinking() const { return reasoning_.thinking(); }

 private:
  void think(const Reasoning::Parts& parts, AnswerItems& out);
  void say(std::string_view text, std::string_view control, AnswerItems& out);
  void take(tools::Items items, AnswerItems& out);
  void end_call(const tools::Item& end, AnswerItems& out);

  bool channels_;
  Reasoning reasoning_;
  std::optional<tools::ToolCallParser> calls_;
  AnswerItem call_;      // under way
  std::string written_;  // since the last call or text that came out
};

}  // namespace llorch::worker
