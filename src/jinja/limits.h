// What one rendering may cost (S-55). A long conversation through the largest published template takes under 100,000
// steps and a few times its own size in text.
#pragma once

#include <cstdint>

namespace llorch::jinja {

inline constexpr std::int64_t kStepsMax = 1'000'000;
inline constexpr std::int64_t kBytesMax = std::int64_t{256} << 20;  // of text made on the way, intermediate values too
inline constexpr std::size_t kTextMax = 32u << 20;   // one text; a single search of it stays within milliseconds
inline constexpr std::size_t kTextValueBytes = 192;  // what a text, list or tuple takes beyond its content
inline constexpr int kDepthMax = 96;                 // nested expressions, blocks and macro calls
inline constexpr std::size_t kSourceMax = 1u << 20;  // a template's own length
inline constexpr std::size_t kTokensMax = 200'000;   // the longest published template has some 5,000
inline constexpr int kTreeDepthMax = 400;            // of an expression's tree: it is destroyed recursively

// In units of a WorkLimit, which take some nanoseconds.
inline constexpr std::uint64_t kUnitsPerStep = 32;   // evaluating a node takes about 100 ns
inline constexpr std::uint64_t kUnitsPerLoop = 512;  // a turn of a loop makes its scope and its `loop`
inline constexpr std::uint64_t kUnitsPerVisit = 4;   // looking at one value of a list or dict
inline constexpr std::uint64_t kUnitsPerPrint = 16;  // writing one value as text, its bytes apart
inline constexpr std::uint64_t kBytesPerUnit = 16;   // bytes that are copied or searched in a unit's time
inline constexpr std::size_t kBytesPerLook = 65536;  // a loop over bytes charges at least this often

}  // namespace llorch::jinja
