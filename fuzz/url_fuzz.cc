// URLs: whatever is put into a path or a query, parse_target() gives back, or refuses.
#include <algorithm>
#include <cstdint>
#include <ranges>
#include <string_view>

#include "net/http_types.h"
#include "net/url.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llorch;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)net::parse_url(text);
  (void)net::parse_target(text);
  const std::string_view segment = text.substr(0, text.find('\n')),
                         value = text.substr(std::min(text.size(), segment.size() + 1));
  const auto refused = [](std::string_view part, bool path) {
    if (!net::is_utf8(part)) return true;
    for (const char c : part)
      if ((c >= 0 && c < 0x20) || c == 0x7f || (path && c == '\\')) return true;
    for (const auto piece : part | std::views::split('/')) {
      const std::string_view name(piece.begin(), piece.end());
      if (path && (name.empty() || name == "." || name == "..")) return true;
    }
    return path && (part.empty() || part.ends_with('/'));
  };
  const auto target = net::parse_target(net::url_path("/v1").segment(segment).fixed("/x").query(value, value).text());
  if (refused(segment, true) || refused(value, false)) {
    if (target) __builtin_trap();
    return 0;
  }
  if (!target || target->path.substr(0, 4) != "/v1/" || target->path.substr(4) != std::string(segment) + "/x")
    __builtin_trap();
  const auto slash = segment.find('/');  // a segment's own is told from those between segments
  if (target->escaped_slash != (slash == segment.npos ? std::string::npos : 4 + slash)) __builtin_trap();
  if (target->query.size() != 1 || target->query[0].first != value || target->query[0].second != value)
    __builtin_trap();
  return 0;
}
