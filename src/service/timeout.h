// How long a person waits for something outside, and what is said meanwhile (S-44).
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <string>

#include "base/result.h"

namespace llorch::service {

/// Of one operation. Zero: none.
struct Timeout {
  std::string label;
  std::chrono::seconds time{0};
  bool silent = false;                            // else the seconds are counted down on a terminal
  const std::atomic<bool>* called_off = nullptr;  // once it is true nobody waits any more

  [[nodiscard]] Error error() const {
    if (called_off && *called_off) return {ErrorCode::kCancelled, fmt::format("{} was called off", label)};
    return {ErrorCode::kOperationTimeout, fmt::format("{} timed out after {} seconds", label, time.count())};
  }
};

namespace timeouts {
inline constexpr std::chrono::seconds kInstall{300}, kBuild{600}, kStart{120}, kStop{20}, kUninstall{60}, kShutdown{15};
}

}  // namespace llorch::service
