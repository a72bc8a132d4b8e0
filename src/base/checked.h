// Arithmetic on numbers that came from a file or a socket: nullopt where the result would wrap.
#pragma once

#include <cstdint>
#include <optional>

namespace llorch {

[[nodiscard]] inline std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t r;
  return __builtin_add_overflow(a, b, &r) ? std::nullopt : std::optional(r);
}

[[nodiscard]] inline std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) {
  std::uint64_t r;
  return __builtin_mul_overflow(a, b, &r) ? std::nullopt : std::optional(r);
}

/// Smallest multiple of `alignment` (a power of two) that is not below `value`.
[[nodiscard]] inline std::optional<std::uint64_t> checked_align(std::uint64_t value, std::uint64_t alignment) {
  auto sum = checked_add(value, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(alignment - 1);
}

}  // namespace llorch
