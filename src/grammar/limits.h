// Bounds on grammars and on what is kept of their states. Hostile input meets one of them within a second.
#pragma once

#include <cstddef>
#include <cstdint>

namespace llorch::grammar_limits {

inline constexpr std::size_t kSourceBytesMax = 4u << 20;  // the largest published schemas have some 2 MB
inline constexpr std::uint32_t kNetStatesMax = 600'000;   // 20 bytes each
inline constexpr std::uint32_t kNetEdgesMax = 2'000'000;  // 12 bytes each
inline constexpr std::uint32_t kRulesMax = 50'000;
inline constexpr int kNestingMax = 200;                  // of groups in patterns, of repetitions, of schemas in schemas
inline constexpr std::uint32_t kRepeatMax = 10'000'000;  // counts are kept, not unrolled
inline constexpr std::size_t kLeftDepthMax = 500;        // rules that begin with one another

// JSON Schema.
inline constexpr std::size_t kGatherMax = 300'000;        // schemas read, each time that one is joined with others
inline constexpr std::size_t kSchemaWorkMax = 5'000'000;  // names, values, alternatives, made schemas: some 100 ns each
inline constexpr std::size_t kAlternativesMax = 600;      // of one value, after anyOf, oneOf and not are multiplied out
inline constexpr std::size_t kAlternativesTotal = 20'000;  // of all values
inline constexpr std::size_t kCountedCellsMax = 20'000;    // properties times counts, for minProperties, maxProperties

// Automata of patterns.
inline constexpr std::size_t kDfaStatesMax = 12'000;
inline constexpr std::size_t kDfaArcsMax = 400'000;        // as many of an unrolled pattern
inline constexpr std::size_t kPatternNodesMax = 60'000;    // after repetitions are unrolled
inline constexpr std::size_t kPatternWorkMax = 6'000'000;  // members of sets looked at, one grammar together
inline constexpr std::size_t kNumberStatesMax = 20'000;
inline constexpr std::size_t kEndTextMax = 500;  // characters of a text that ends raw strings

// What is kept of one grammar's states; above it, all but the current ones are dropped.
inline constexpr std::size_t kStatesKept = 24'000;      // about 1 KiB each
inline constexpr std::size_t kConfigsKept = 4'000'000;  // 8 bytes each
inline constexpr std::size_t kMaskBytesKept = 32u << 20;
inline constexpr std::size_t kConfigsPerState = 20'000;   // ambiguity beyond this ends the match
inline constexpr std::uint64_t kMaskWorkMax = 8'000'000;  // positions looked at for one mask: some tenths of a second

// Of a search for texts that can be read from one state on, in place of trying each token.
inline constexpr std::uint32_t kNodesUnsearched = 4000;  // tried before: most masks are done by then
inline constexpr std::size_t kSearchStatesMax = 400;
inline constexpr std::uint32_t kSearchStepsMax = 150'000;  // of one mask; some nanoseconds each
inline constexpr std::uint64_t kSearchWorkMax = 200'000;   // positions looked at for one mask: some milliseconds
inline constexpr int kSearchRounds = 8;                    // of leaving out a character
inline constexpr std::uint32_t kSearchNear = 8;            // characters: from there on a dead end bounds the length
inline constexpr std::uint32_t kSearchLength = 32;         // characters that are searched at least

inline constexpr std::size_t kForcedBytesMax = 4096;    // of one call
inline constexpr std::size_t kForcedWorkMax = 300'000;  // positions of its states: some milliseconds

}  // namespace llorch::grammar_limits
