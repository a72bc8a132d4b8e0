#include "base/human.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace llorch {
namespace {

/// Without an exponent; as many decimals as make three digits.
std::string three_digits(double value) {
  const double size = std::abs(value);
  return fmt::format("{:.{}f}", value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

std::string two_units(std::int64_t value, std::int64_t per_large, std::string_view large, std::string_view small) {
  const std::int64_t rest = value % per_large;
  return rest == 0 ? fmt::format("{} {}", value / per_large, large)
                   : fmt::format("{} {} {} {}", value / per_large, large, rest, small);
}

}  // namespace

std::string size_text(double bytes) {
  constexpr std::array<std::string_view, 4> kUnits{"kB", "MB", "GB", "TB"};
  if (std::abs(bytes) < 999.5) return fmt::format("{:.0f} B", bytes);
  std::size_t unit = 0;
  for (bytes /= 1000; std::abs(bytes) >= 999.5 && unit + 1 < kUnits.size(); ++unit) bytes /= 1000;
  return fmt::format("{} {}", three_digits(bytes), kUnits[unit]);
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  if (seconds < 0.9995) return fmt::format("{:.0f} ms", std::max(0.0, seconds) * 1000);
  if (seconds < 59.95) return three_digits(seconds) + " s";
  constexpr double kLongest = 1e9;  // some 30 years
  const auto whole = static_cast<std::int64_t>(std::round(std::min(seconds, kLongest)));
  if (whole < 3600) return two_units(whole, 60, "min", "s");
  if (whole < 86400) return two_units(whole / 60, 60, "h", "min");
  return two_units(whole / 3600, 24, "d", "h");
}

std::string bar_text(double part) {
  constexpr int kWidth = 15;  // so that a transfer fits into 80 columns
  part = std::clamp(std::isfinite(part) ? part : 0.0, 0.0, 1.0);
  const int filled = static_cast<int>(part * kWidth);
  return fmt::format("[{}{}] {:3.0f} %", std::string(static_cast<std::size_t>(filled), '#'),
                     std::string(static_cast<std::size_t>(kWidth - filled), ' '), std::floor(part * 100));
}

}  // namespace llorch
