// Learns from a chat template how its model writes calls of tools.
//
// The template is rendered with probing conversations (no call, one, two, without arguments, nested values, text before
// a call, an answer); names and values in them are words that occur nowhere else, so that what stands around them is
// the format. No model's marker is known here; families whose templates cannot show theirs have one file each in
// tools/family/. Ownership: values. Threads: any. Errors: those of a template that cannot be parsed, and of `limit`; a
// template that shows no calls, or fails, gives the format "none" with its reason.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/work_limit.h"
#include "tools/format.h"

namespace llorch::tools {

inline constexpr std::uint64_t kLearnUnitsMax = 200'000'000;  // about a second; published templates take some 2 million

struct LearnOptions {
  std::string bos = "<s>", eos = "</s>";
};

[[nodiscard]] Result<ToolFormat> learn_tool_format(std::string_view chat_template, const LearnOptions& options,
                                                   WorkLimit& limit);
[[nodiscard]] Result<ToolFormat> learn_tool_format(std::string_view chat_template, const LearnOptions& options = {});

}  // namespace llorch::tools
