// What a flag takes as a number. CLI11's own checks let NaN through, and wrap numbers that do not fit.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/integer.h"

namespace llorch::cli {

/// From `low` to `high`, or above `low` where `above` is set.
inline CLI::Validator number_between(double low, double high, bool above = false) {
  const std::string range = fmt::format("{} {} TO {}", above ? "ABOVE" : "FROM", low, high);
  return CLI::Validator(
      [=](const std::string& text) {
        char* end = nullptr;
        const double value = std::strtod(text.c_str(), &end);
        const bool good = end != text.c_str() && *end == 0 && (above ? value > low : value >= low) && value <= high;
        return good ? std::string()
                    : fmt::format("{} is no number {} {} to {}", text, above ? "above" : "from", low, high);
      },
      range);
}

/// A whole number of 64 bits without a sign.
inline CLI::Validator whole_number() {
  return CLI::Validator(
      [](const std::string& text) {
        return parse_integer<std::uint64_t>(text) ? std::string()
                                                  : fmt::format("{} is no whole number from 0 to {}", text, UINT64_MAX);
      },
      "WHOLE NUMBER");
}

/// 1 to `most` of `what`, or -1 for no limit. `why`: more words for whoever gave 0, such as ", as ...".
inline CLI::Validator some_or_unlimited(std::string what, int most, std::string why = "") {
  return CLI::Validator(
      [=](const std::string& text) {
        const auto n = parse_integer<int>(text, -1, most);
        return n && *n != 0 ? std::string() : fmt::format("{} is no number of {}: 1 or more{}, or -1", text, what, why);
      },
      "1 OR MORE, OR -1");
}

}  // namespace llorch::cli
