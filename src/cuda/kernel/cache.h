// Keys and values in pages of 64 positions, and how they get there.
//
// A page of a layer lies together, head behind head: keys (64, padded), then values (64, padded). q8_0: signed bytes,
// then of each position the scales of 32 dimensions each (64, padded / 32), in both. Dimensions from head_dim on are
// zeros. Bound of write_cache(): bytes, keys and values are read and written once.
#pragma once

#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/step.h"
#include "model/state.h"

namespace llorch::cuda {

constexpr int kPagePositions = limits::kKvPagePositions;

struct KvLayer {
  unsigned char* data = nullptr;
  std::int32_t kv_heads = 0, head_dim = 0, padded = 0;  // padded: head_dim up to a multiple of 32
  std::int32_t group = 0;                               // of pages
  KvPrecision precision = KvPrecision::kF32;
  std::int64_t half_bytes = 0;  // of a head's keys, or its values, in a page

  [[nodiscard]] static KvLayer make(const CacheLayer& layer, int group, KvPrecision precision) {
    KvLayer out;
    out.kv_heads = layer.kv_heads, out.head_dim = layer.head_dim, out.padded = (layer.head_dim + 31) / 32 * 32;
    out.group = group, out.precision = precision;
    const std::int64_t item = precision == KvPrecision::kF32   ? 4 * out.padded
                              : precision == KvPrecision::kF16 ? 2 * out.padded
                                                               : out.padded + out.padded / 32 * 2;
    out.half_bytes = kPagePositions * item;
    return out;
  }
  [[nodiscard]] std::int64_t page_bytes() const { return 2 * half_bytes * kv_heads; }
};

/// key, value (rows of the step, kv_heads * head_dim) go to their rows' positions.
void write_cache(StreamHandle stream, const Step& step, const KvLayer& layer, const float* key, const float* value);

}  // namespace llorch::cuda
