// How long a person waits for something outside, and what is said meanwhile (S-44).
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <string>

#include "base/result.h"

namespace llorch::service {

/// Of one operation. Zero: none.
struct Timeout {
  std::string label;
  std::chrono::seconds time{0};
  bool silent = false;  // else the seconds are counted down on a terminal

  [[nodiscard]] Error error() const {
    return {ErrorCode::kOperationTimeout, fmt::format("{} timed out after {} seconds", label, time.count())};
  }
};

namespace timeouts {
inline constexpr std::chrono::seconds kInstall{300}, kBuild{600}, kStart{120}, kStop{20}, kUninstall{60}, kShutdown{15};
}

}  // namespace llorch::service
