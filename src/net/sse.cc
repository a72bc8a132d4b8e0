#include "net/sse.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace llorch::net {
std::string sse_frame(std::uint64_t id, std::string_view type, std::string_view data) {
  std::string out;
  out.reserve(data.size() + type.size() + 48);
  if (id > 0) {
    char digits[20];
    out.append("id: ").append(digits, std::to_chars(digits, digits + sizeof digits, id).ptr).append("\n");
  }
  if (!type.empty()) out.append("event: ").append(type).append("\n");
  return out.append("data: ").append(data).append("\n\n");
}

bool SseParser::push(std::string_view bytes) {
  while (!bytes.empty()) {
    if (std::exchange(after_cr_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    const std::size_t end = std::min(bytes.find_first_of("\r\n"), bytes.size());
    if (line_.size() + data_.size() + end > event_bytes_max_) return false;
    line_.append(bytes.substr(0, end));
    if (end == bytes.size()) return true;
    after_cr_ = bytes[end] == '\r';
    if (std::exchange(at_start_, false) && line_.starts_with("\xEF\xBB\xBF")) line_.erase(0, 3);
    line(line_);
    line_.clear();
    bytes.remove_prefix(end + 1);
  }
  return true;
}

void SseParser::line(std::string_view text) {
  if (text.empty()) {
    if (had_data_) {
      if (data_ == "[DONE]") done_ = true;
      sink_({id_, type_.empty() ? "message" : type_, data_});
    }
    data_.clear(), type_.clear();
    had_data_ = false;
    return;
  }
  if (text[0] == ':') return;
  const std::size_t colon = text.find(':');
  const std::string_view field = text.substr(0, colon);
  std::string_view value = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "data") {
    if (std::exchange(had_data_, true)) data_ += '\n';
    data_ += value;
  } else if (field == "event") {
    type_ = value;
  } else if (field == "id" && !value.contains('\0')) {
    id_ = value;
  }
}

}  // namespace llorch::net
