#include "net/sse.h"

#include <fmt/format.h>

#include <utility>

namespace llorch::net {
namespace {
constexpr std::size_t kEventBytesMax = 16u << 20;
}

std::string sse_frame(std::uint64_t id, std::string_view type, std::string_view data) {
  std::string out;
  if (id > 0) out += fmt::format("id: {}\n", id);
  if (!type.empty()) out += fmt::format("event: {}\n", type);
  out += "data: ";
  out += data;
  out += "\n\n";
  return out;
}

bool SseParser::push(std::string_view bytes) {
  for (const char c : bytes) {
    if (std::exchange(after_cr_, false) && c == '\n') continue;
    if (c == '\n' || c == '\r') {
      after_cr_ = c == '\r';
      if (std::exchange(at_start_, false) && line_.starts_with("\xEF\xBB\xBF")) line_.erase(0, 3);
      line(line_);
      line_.clear();
    } else {
      line_ += c;
      if (line_.size() + data_.size() > kEventBytesMax) return false;
    }
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
