// Sets of characters as their UTF-8 begins: each ASCII byte alone, all others by their first byte.
#pragma once

#include <bit>
#include <cstdint>

namespace llorch {

struct CharacterSet {
  /// A byte that begins no character; a set that has it is not one of text.
  static constexpr std::uint8_t kBroken = 0x80;

  std::uint64_t words[4] = {};

  void add(std::uint8_t byte) { words[byte >> 6] |= std::uint64_t{1} << (byte & 63); }
  void remove(std::uint8_t byte) { words[byte >> 6] &= ~(std::uint64_t{1} << (byte & 63)); }
  void add(const CharacterSet& other) {
    for (int i = 0; i < 4; ++i) words[i] |= other.words[i];
  }
  void remove(const CharacterSet& other) {
    for (int i = 0; i < 4; ++i) words[i] &= ~other.words[i];
  }
  [[nodiscard]] int size() const {
    return std::popcount(words[0]) + std::popcount(words[1]) + std::popcount(words[2]) + std::popcount(words[3]);
  }
  [[nodiscard]] bool within(const CharacterSet& other) const {
    return !((words[0] & ~other.words[0]) | (words[1] & ~other.words[1]) | (words[2] & ~other.words[2]) |
             (words[3] & ~other.words[3]));
  }
  [[nodiscard]] bool meets(const CharacterSet& other) const {
    return (words[0] & other.words[0]) | (words[1] & other.words[1]) | (words[2] & other.words[2]) |
           (words[3] & other.words[3]);
  }
  [[nodiscard]] bool empty() const { return !(words[0] | words[1] | words[2] | words[3]); }
  /// f(byte) for each that is in the set, upwards, while it returns true. False: it did not.
  template<class F>
  bool all(const F& f) const {
    for (int i = 0; i < 4; ++i)
      for (std::uint64_t left = words[i]; left; left &= left - 1)
        if (!f(static_cast<std::uint8_t>(i * 64 + std::countr_zero(left)))) return false;
    return true;
  }
};

/// How many bytes follow the first one of a character, and from where to where the first of them may be (RFC 3629).
struct Utf8Tail {
  int bytes = -1;  // -1: `first` begins no character
  std::uint8_t low = 0x80, high = 0xbf;

  [[nodiscard]] static Utf8Tail of(std::uint8_t first) {
    if (first < 0x80) return {0};
    if (first < 0xc2 || first > 0xf4) return {};
    if (first < 0xe0) return {1};
    if (first < 0xf0)
      return {2, static_cast<std::uint8_t>(first == 0xe0 ? 0xa0 : 0x80),
              static_cast<std::uint8_t>(first == 0xed ? 0x9f : 0xbf)};
    return {3, static_cast<std::uint8_t>(first == 0xf0 ? 0x90 : 0x80),
            static_cast<std::uint8_t>(first == 0xf4 ? 0x8f : 0xbf)};
  }
  /// What follows behind one more byte; bytes = -1: that byte may not come.
  [[nodiscard]] Utf8Tail behind(std::uint8_t byte) const {
    return byte < low || byte > high ? Utf8Tail{} : Utf8Tail{bytes - 1};
  }
};

}  // namespace llorch
