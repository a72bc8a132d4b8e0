// Counter-based random numbers: a value depends on its key and counters alone, never on what was drawn before.
//
// mix64 is the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
// Sampling keys it by (seed, choice, step) (E-37); weight synthesis by (seed, tensor name, element), which tools/parity
// repeats in Python.
#pragma once

#include <cstdint>
#include <string_view>

namespace llorch {

[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/// FNV-1a, 64 bits.
[[nodiscard]] constexpr std::uint64_t fnv1a64(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

/// Uniform double in [0, 1) with 53 bits, for draw `step` of choice `choice` under `seed`.
[[nodiscard]] constexpr double uniform(std::uint64_t seed, std::uint64_t choice, std::uint64_t step) {
  return static_cast<double>(mix64(mix64(mix64(seed) ^ choice) ^ step) >> 11) * 0x1p-53;
}

}  // namespace llorch
