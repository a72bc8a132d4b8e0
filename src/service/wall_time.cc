#include "service/wall_time.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string_view>

namespace llorch::service {

std::optional<WallTime> parse_rfc3339(const std::string& text) {
  std::tm parts{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (!rest) return std::nullopt;
  int ms = 0;
  if (*rest == '.') {
    int scale = 100;
    for (++rest; std::isdigit(static_cast<unsigned char>(*rest)); ++rest, scale /= 10) ms += (*rest - '0') * scale;
  }
  int offset = 0;
  if (*rest == '+' || *rest == '-') {
    int hours = 0, minutes = 0;
    if (std::sscanf(rest + 1, "%2d:%2d", &hours, &minutes) != 2 || std::string_view(rest).size() != 6)
      return std::nullopt;
    offset = (*rest == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
  } else if (std::string_view(rest) != "Z") {
    return std::nullopt;
  }
  // A wall clock counts nanoseconds in 64 bits, which are used up in the year 2262.
  constexpr std::int64_t kSecondsMax = 9'200'000'000;
  const std::int64_t seconds = std::clamp<std::int64_t>(timegm(&parts) - offset, -kSecondsMax, kSecondsMax);
  return WallTime(std::chrono::seconds(seconds) + std::chrono::milliseconds(ms));
}

}  // namespace llorch::service
