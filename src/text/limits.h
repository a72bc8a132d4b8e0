// What a tokenizer's files may hold and what encoding may make of a text (S-55). The published vocabularies of the test
// data have pieces of up to 256 bytes, 26 KB of added tokens and a handful of steps.
#pragma once

#include <cstddef>
#include <cstdint>

namespace llorch::text_limits {

inline constexpr std::size_t kTokenBytesMax = 16'384;         // one piece; lookups hash up to this many bytes
inline constexpr std::size_t kAddedTokenBytesMax = 4u << 20;  // all added tokens: a node of the trie for each byte
inline constexpr std::size_t kMergesMax = 4u << 20;
inline constexpr std::size_t kCollisionsMax = 64;          // in one bucket of a hash table; chance gives about 10
inline constexpr std::size_t kStepsMax = 64;               // normalizers, splits and processors of a tokenizer.json
inline constexpr std::size_t kReplacementBytesMax = 1024;  // what one match or one word is given
inline constexpr std::size_t kPatternBytesMax = 65'536;

// A text's size after normalisation or cutting, by its size before: NFKD makes at most 11 times of it, metaspace 3.
inline constexpr std::size_t kGrowthMax = 32, kGrowthAtLeast = 65'536;
inline constexpr std::size_t kWordBytesMax = 16u << 20;  // merging takes some 50 bytes for each byte of a word
inline constexpr std::size_t kCombiningMarksMax = 4096;  // in a row: putting them in order is quadratic
inline constexpr std::size_t kNormalizedAtOnce = 4096;   // bytes, or more where no character allows a cut
inline constexpr std::uint64_t kMatchStarts = 1u << 25;  // backtracking steps of one call of PCRE2, about

}  // namespace llorch::text_limits
