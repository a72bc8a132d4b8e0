// Softmax attention of each row over what its sequence has in pages.
//
// A row's positions are cut at the borders of pages, which are absolute. Each page gives its largest score, the mass
// and the weighted sum of its values relative to that; the pages are merged in order. So decode, prefill and any split
// over blocks give the same bits. Bound: bytes of keys and values over bandwidth in decode. Next: prefill by mma with
// the pages' keys in shared memory, all heads of a group in one block; for decode a block for some pages of a row each,
// and a merge in the same order.
#pragma once

#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/cache.h"
#include "cuda/kernel/step.h"

namespace llorch::cuda {

struct AttendCall {
  const float* query = nullptr;  // (rows of the step, heads * head_dim)
  float* out = nullptr;          // the same
  std::int32_t heads = 0;
  float scale = 1;
  std::int32_t window = 0;       // as in device/device.h
  float softcap = 0;             // 0: none
  const float* sinks = nullptr;  // one for each head, or null
  bool both_ways = false;
};
void attend(StreamHandle stream, const Step& step, const KvLayer& layer, const AttendCall& call);

}  // namespace llorch::cuda
