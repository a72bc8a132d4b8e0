// A whole text as a whole number.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string_view>

namespace llorch {

/// Decimal digits, with a minus in front where T has a sign: nothing before, between or behind. Nothing where the text
/// is anything else or the number does not fit.
template<std::integral T>
[[nodiscard]] std::optional<T> parse_integer(std::string_view text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [read, problem] = std::from_chars(text.data(), end, value);
  return problem == std::errc{} && read == end ? std::optional(value) : std::nullopt;
}

/// The same within low..high.
template<std::integral T>
[[nodiscard]] std::optional<T> parse_integer(std::string_view text, T low, T high) {
  const auto value = parse_integer<T>(text);
  return value && *value >= low && *value <= high ? value : std::nullopt;
}

}  // namespace llorch
