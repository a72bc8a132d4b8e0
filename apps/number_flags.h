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

}  // namespace llorch::cli
