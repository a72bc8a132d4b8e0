#include "keeper/chat_window.h"

#include <algorithm>

#include "format/json.h"

namespace llorch::keeper {
namespace {

bool has_role(const boost::json::value& message, std::string_view role) {
  const auto* object = message.if_object();
  return object && json::find_text(*object, "role") == role;
}

}  // namespace

boost::json::array ChatWindow::messages() const {
  boost::json::array all;
  if (!system_.empty()) all.push_back({{"role", "system"}, {"content", system_}});
  all.insert(all.end(), messages_.begin(), messages_.end());
  return all;
}

void ChatWindow::set_messages(boost::json::array messages) {
  clear();
  system_.clear();
  if (!messages.empty() && has_role(messages.front(), "system")) {
    system_ = json::find_text(messages.front().get_object(), "content").value_or("");
    messages.erase(messages.begin());
  }
  messages_ = std::move(messages);
  keep();
}

void ChatWindow::clear() {
  messages_.clear();
  kept_ = tokens_ = 0;
}

void ChatWindow::begin(const std::string& said) { messages_.push_back({{"role", "user"}, {"content", said}}); }

int ChatWindow::forget(int turns) {
  int gone = 0;
  for (; gone < turns; ++gone) {
    const auto next = std::find_if(messages_.begin() + (messages_.empty() ? 0 : 1), messages_.end(),
                                   [](const auto& message) { return has_role(message, "user"); });
    if (next == messages_.end()) break;
    const auto count = static_cast<std::size_t>(next - messages_.begin());
    messages_.erase(messages_.begin(), next);
    kept_ -= std::min(kept_, count);
  }
  return gone;
}

void ChatWindow::measure(const boost::json::object& end) {
  tokens_ = json::find_unsigned(end, "tokens_in").value_or(0) + json::find_unsigned(end, "tokens_out").value_or(0);
  tokens_max_ = json::find_unsigned(end, "context").value_or(0);
}

std::size_t ChatWindow::text_bytes() const {
  std::size_t bytes = system_.size();
  for (const auto& message : messages_) bytes += boost::json::serialize(message).size();
  return bytes;
}

int ChatWindow::make_room(std::optional<std::uint64_t> wanted) {
  constexpr std::size_t kAnswer = 512;
  const std::size_t answer = std::min(tokens_max_ / 4, static_cast<std::size_t>(wanted.value_or(kAnswer)));
  if (tokens_max_ == 0 || tokens_ + answer <= tokens_max_) return 0;
  const double per_byte = static_cast<double>(tokens_) / static_cast<double>(std::max<std::size_t>(1, text_bytes()));
  const auto taken = [&] { return static_cast<std::size_t>(per_byte * static_cast<double>(text_bytes())); };
  int gone = 0;
  while (taken() > tokens_max_ * 2 / 3 && forget(1) > 0) ++gone;
  if (gone > 0) tokens_ = taken();
  return gone;
}

}  // namespace llorch::keeper
