// The arguments of one call, as a part of a grammar: an object of JSON, or parameters one by one.
//
// Threads: one. Errors: Refusal; its pointer leads into the tool's `parameters`, its message begins with the tool.
#pragma once

#include <functional>

#include "grammar/composer.h"
#include "tools/format.h"
#include "toolset/toolset.h"

namespace llorch::tools {

struct ArgumentsContext {
  GrammarComposer& composer;
  const ToolFormat& format;
  SchemaOptions options;
  /// A text of the format as a part; control tokens in it are named as such.
  std::function<GrammarComposer::Part(std::string_view)> text;
  SchemaReader::Spent& spent;  // by all tools so far
};
[[nodiscard]] Compiled<GrammarComposer::Part> arguments_part(const ArgumentsContext& context, const DeclaredTool& tool);

}  // namespace llorch::tools
