// What one rendering may cost (S-55). A long conversation through the largest published template takes under 100,000
// steps and a few times its own size in text.
#pragma once

#include <cstdint>

namespace llorch::jinja {

inline constexpr std::int64_t kStepsMax = 1'000'000;
inline constexpr std::int64_t kBytesMax = std::int64_t{256} << 20;  // of text made on the way, intermediate values too
inline constexpr std::uint64_t kUnitsPerStep = 32;   // of a WorkLimit; evaluating a node takes about 100 ns
inline constexpr std::uint64_t kBytesPerUnit = 16;   // bytes that are copied or searched in a unit's time
inline constexpr int kDepthMax = 96;                 // nested expressions, blocks and macro calls
inline constexpr std::size_t kSourceMax = 1u << 20;  // a template's own length

}  // namespace llorch::jinja
