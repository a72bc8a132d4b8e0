// What the mixer of a layer remembers of a sequence. The cache, the prediction of memory and what tools print are all
// made from these declarations.
#pragma once

#include <cstdint>

namespace llorch {

enum class KvPrecision { kF32, kF16, kQ8_0 };

/// Keys and values, in pages of limits::kKvPagePositions positions.
struct CacheLayer {
  int kv_heads = 0, head_dim = 0;
  bool operator==(const CacheLayer&) const = default;
};

}  // namespace llorch
