// Tools that a request of Chat Completions declares, and which of them an answer may or must call.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "toolset/toolset.h"
#include "wire/fields.h"

namespace llorch::wire {

struct ToolUse {
  enum class Choice : std::uint8_t { kNone, kAuto, kRequired };
  boost::json::array declared;             // as the client wrote them: for the chat template
  std::vector<tools::DeclaredTool> tools;  // those that may be called
  Choice choice = Choice::kAuto;
  bool parallel = true, strict = false;  // strict: one of the tools says that its schema must hold
  bool held = false;                     // set when the answer is held to a grammar of its calls

  [[nodiscard]] bool may_call() const { return !tools.empty() && choice != Choice::kNone; }
};

/// Takes tools, tool_choice and parallel_tool_calls. Violations name the field and, of tools, the place.
[[nodiscard]] ToolUse read_tool_use(Fields& f);

}  // namespace llorch::wire
