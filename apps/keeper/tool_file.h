// The file of --tools, and the tool that must be called. Errors: kInvalidRequest naming the file and the place in it.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace llorch::keeper {

/// Tools as chat completions take them, from JSON text: a list of tools or one; a function may stand for a tool of its
/// own. `file`: its name, for errors.
[[nodiscard]] Result<boost::json::array> parse_tools(std::string_view text, const std::string& file);
/// `file`: as read_given_file() has it.
[[nodiscard]] Result<boost::json::array> read_tools(const std::string& file);

/// `tool_choice` of a request: auto, required, none, or the name of one of `tools`.
[[nodiscard]] Result<boost::json::value> tool_choice(const std::string& choice, const boost::json::array& tools);

}  // namespace llorch::keeper
