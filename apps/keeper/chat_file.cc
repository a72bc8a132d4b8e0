#include "keeper/chat_file.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "daemon_flags.h"
#include "format/json.h"
#include "keeper/given_file.h"
#include "security/keys.h"

namespace llorch::keeper {
namespace {

constexpr std::size_t kChatBytesMax = 64u << 20;

bool is_message(const boost::json::value& value) {
  constexpr std::array<std::string_view, 4> kRoles{"system", "user", "assistant", "tool"};
  const auto* message = value.if_object();
  if (!message) return false;
  const auto role = json::find_text(*message, "role");
  return role && std::ranges::find(kRoles, *role) != kRoles.end() && json::find_text(*message, "content");
}

}  // namespace

Result<std::string> chat_path(const std::string& name) {
  if (name.contains('/')) return name;
  if (name.empty() || name.starts_with('.'))
    return fail(ErrorCode::kInvalidRequest, "a conversation needs a name, or a path with a slash");
  return cli::state_directory() + "/chats/" + name + ".json";
}

Status save_chat(const std::string& path, const ChatFile& chat) {
  std::error_code problem;
  if (std::filesystem::exists(std::filesystem::symlink_status(path, problem)) && !load_chat(path))
    return fail(ErrorCode::kResourceInUse, "{} is there and no saved conversation: it stays as it is", path);
  const std::string own = cli::state_directory() + "/chats";
  if (path.starts_with(own + "/")) LLORCH_OK(cli::make_private_directory(own));
  return security::write_secret_file(
      path,
      boost::json::serialize(boost::json::object{
          {"model", chat.model}, {"messages", chat.messages}, {"tokens", chat.tokens}, {"context", chat.tokens_max}}) +
          "\n");
}

Result<ChatFile> load_chat(const std::string& path) {
  LLORCH_TRY(const std::string text, read_given_file(path, kChatBytesMax));
  LLORCH_TRY(const boost::json::value value, json::parse(text, path));
  const auto* object = value.if_object();
  const auto* messages = object ? json::find_array(*object, "messages") : nullptr;
  const auto model = object ? json::find_text(*object, "model") : std::nullopt;
  if (!messages || !model)
    return fail(ErrorCode::kInvalidRequest, "{} is no saved conversation: it lacks model or messages", path);
  for (std::size_t i = 0; i < messages->size(); ++i)
    if (!is_message((*messages)[i]))
      return fail(ErrorCode::kInvalidRequest, "{}: message {} has no role or no text", path, i + 1);
  return ChatFile{*model, *messages, json::find_unsigned(*object, "tokens").value_or(0),
                  json::find_unsigned(*object, "context").value_or(0)};
}

}  // namespace llorch::keeper
