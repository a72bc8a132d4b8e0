// Softmax attention of each row over what its sequence has in pages.
//
// Positions are cut into spans of kSpanPages pages, at absolute borders. A span gives its largest score, and relative
// to that the mass and the weighted sum of its values, page after page; spans are merged in order. Every row goes
// through the same products (mma, attention_operands.h), alone or among others. So decode, prefill and any split over
// blocks give the same bits.
//   few rows   a block for each span, and merge_kernel: spans are computed side by side. Where the room is too small
//   for
//              all rows of a step, groups of rows follow each other.
//   many rows  a block computes all spans of its rows and merges them
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/cache.h"
#include "cuda/kernel/step.h"

namespace llorch::cuda {

constexpr int kSpanPages = 4, kSpan = kSpanPages * kPagePositions;

struct AttendCall {
  const float* query = nullptr;  // (rows of the step, heads * head_dim)
  float* out = nullptr;          // the same; not `query`
  std::int32_t heads = 0;
  float scale = 1;
  std::int32_t window = 0;       // as in device/device.h
  float softcap = 0;             // 0: none
  const float* sinks = nullptr;  // one for each head, or null
  bool both_ways = false;
  float* partials = nullptr;        // attend_partials() floats
  std::int32_t first = 0, end = 0;  // rows of a launch; attend() sets them
  std::int64_t spans_before = 0;    // of the rows before them, all heads: they are not in `partials`
};
/// Room for what spans give, in floats, for the rows of one launch; 0: blocks merge their spans themselves.
[[nodiscard]] std::size_t attend_partials(const Step& step, const KvLayer& layer, std::int32_t heads);
/// As much as steps of fewer rows and positions need at most: many rows need none.
[[nodiscard]] std::size_t attend_partials_most(const Step& step, const KvLayer& layer, std::int32_t heads);
void attend(StreamHandle stream, const Step& step, const KvLayer& layer, const AttendCall& call);

/// Shared memory that a block takes of an attention over this layer, in bytes, whatever the step.
[[nodiscard]] std::size_t attend_shared_bytes(const KvLayer& layer);

/// For one form of the cache.
template<KvPrecision Precision>
[[nodiscard]] std::size_t attend_form_shared_bytes(const KvLayer& layer);
template<KvPrecision Precision>
void attend_form(StreamHandle stream, const Step& step, const KvLayer& layer, const AttendCall& call);

}  // namespace llorch::cuda
