// A conversation as `/save` keeps it: JSON with its model and its messages.
#pragma once

#include <boost/json.hpp>
#include <string>

#include "base/result.h"

namespace llorch::keeper {

struct ChatFile {
  std::string model;
  boost::json::array messages;             // the system message first, where there is one
  std::size_t tokens = 0, tokens_max = 0;  // of the last answer with its prompt, of the window; 0: not known
};

/// Where `/save NAME` keeps a conversation: a path where NAME has a slash, else a file among the user's own. Errors:
/// kInvalidRequest for a name that is empty or begins with a dot.
[[nodiscard]] Result<std::string> chat_path(const std::string& name);
/// Only this user can read the file. Errors: kResourceInUse where another file than a saved conversation is there; kIo.
[[nodiscard]] Status save_chat(const std::string& path, const ChatFile& chat);
/// Errors: kInvalidRequest naming what is wrong with the file; kIo.
[[nodiscard]] Result<ChatFile> load_chat(const std::string& path);

}  // namespace llorch::keeper
