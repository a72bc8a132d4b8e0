// Times of day from the wire.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace llorch::service {

using WallTime = std::chrono::system_clock::time_point;

/// "2026-11-21T10:00:00.123Z" or with an offset; nothing for anything else.
[[nodiscard]] std::optional<WallTime> parse_rfc3339(const std::string& text);

}  // namespace llorch::service
