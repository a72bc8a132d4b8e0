// Hands a conversation with calls and answers to a chat template in the way that the template wants.
//
// Ownership: values. Threads: any. Errors: kInvalidRequest for a message that is malformed, kUnsupportedValue where the
// template cannot say it; both name the message by its place, never its content.
#pragma once

#include <boost/json.hpp>

#include "base/result.h"
#include "tools/format.h"

namespace llorch::tools {

/// Messages with `tool_calls` in the shape of Chat Completions: arguments become objects or texts, empty contents what
/// leaves nothing behind, ids what the template takes (the same id in an answer's `tool_call_id`), and answers get the
/// name of the tool that they answer for. Everything else stays as it is.
[[nodiscard]] Result<boost::json::array> prepare_history(const ToolFormat& format, const boost::json::array& messages);
/// What a template needs besides messages: `tools`, and under what other name it wants them.
void add_tool_variables(const ToolFormat& format, const boost::json::array& tools, std::string_view date,
                        boost::json::object& variables);

}  // namespace llorch::tools
