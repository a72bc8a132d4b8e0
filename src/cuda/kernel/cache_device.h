// Reading and writing one position of a page. For `.cu` files.
#pragma once

#include "cuda/instructions.h"
#include "cuda/kernel/cache.h"

namespace llorch::cuda {

/// A head's keys (which 0) or values (1) in a page.
__device__ inline unsigned char* kv_half(const KvLayer& l, std::int64_t page, std::int64_t head, int which) {
  return l.data + ((page * l.kv_heads + head) * 2 + which) * l.half_bytes;
}

template<KvPrecision Precision>
__device__ float kv_read(const KvLayer& l, const unsigned char* half, int slot, int d) {
  const int at = slot * l.padded + d;
  if constexpr (Precision == KvPrecision::kF32)
    return reinterpret_cast<const float*>(half)[at];
  else if constexpr (Precision == KvPrecision::kF16)
    return to_float(reinterpret_cast<const Half*>(half)[at]);
  else
    return static_cast<float>(reinterpret_cast<const signed char*>(half)[at]) *
           to_float(reinterpret_cast<const Half*>(half + kPagePositions * l.padded)[at / 32]);
}

}  // namespace llorch::cuda
