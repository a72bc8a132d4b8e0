// The rows of a block of attention: which they are, what they see, their queries as operands; and how spans are merged.
// For `.cu` files.
#pragma once

#include "cuda/kernel/attention.h"
#include "cuda/kernel/attention_operands.h"
#include "cuda/kernel/block.h"

namespace llorch::cuda {

constexpr float kLogTwoE = 1.44269504f;  // scores are powers of two

/// The positions that a row sees.
struct Sight {
  std::int32_t oldest, last;
};
__device__ inline Sight sight_of(const Step& step, const StepRow& row, const AttendCall& c) {
  const int half = c.both_ways ? c.window / 2 : 0;
  int last = row.position;
  if (c.both_ways) last = step.rows[step.sequences[row.sequence].end - 1].position;
  if (half > 0) last = min(last, row.position + half);
  const int behind = c.both_ways ? half : c.window - 1;
  return {c.window > 0 ? max(0, row.position - behind) : 0, last};
}

/// The rows of a block: `count` pairs of a row of one sequence and a head of a key head, from pair `first` on; the
/// heads of a row are beside each other.
template<int kRows>
struct TileRows {
  std::int32_t sequence, first, count;
  Sight sight[kRows];   // where there is no row: of nothing
  float factor[kRows];  // from a product to the score
};

/// Tile `number` of the launch's, counted sequence by sequence; count 0: there are fewer. By a whole warp.
template<int kRows>
__device__ void find_tile(const Step& step, const AttendCall& c, int heads, int number, TileRows<kRows>& out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (lane == 0) out.count = 0;
  __syncwarp();
  for (int base = 0; base < step.sequence_count; base += 32) {
    const int i = base + lane;
    int begin = 0, pairs = 0;  // of the sequence's pairs, those of this launch
    if (i < step.sequence_count) {
      const int from = step.sequences[i].first, first = max(from, c.first);
      begin = (first - from) * heads, pairs = max(0, min(step.sequences[i].end, c.end) - first) * heads;
    }
    const int tiles = (pairs + kRows - 1) / kRows;
    int end = tiles;
    for (unsigned d = 1; d < 32; d *= 2) {
      const int before = __shfl_up_sync(kAllLanes, end, d);
      if (lane >= static_cast<int>(d)) end += before;
    }
    if (number < end && number >= end - tiles) {
      out.sequence = i, out.first = (number - end + tiles) * kRows;
      out.count = min(kRows, pairs - out.first), out.first += begin;
    }
    const int all = __shfl_sync(kAllLanes, end, 31);
    if (number < all) return;
    number -= all;
  }
}

/// The step's row and the head of row r of a tile.
struct TilePlace {
  std::int64_t row, head;
};
template<int kRows>
__device__ TilePlace place_of(const Step& step, const TileRows<kRows>& rows, int r, std::int64_t kv_head, int heads) {
  const int pair = rows.first + r;
  return {step.sequences[rows.sequence].first + pair / heads, kv_head * heads + pair % heads};
}

template<int kRows>
__device__ void find_sights(const Step& step, const AttendCall& c, int heads, TileRows<kRows>& rows) {
  for (int r = static_cast<int>(threadIdx.x); r < kRows; r += static_cast<int>(blockDim.x))
    rows.sight[r] = r < rows.count ? sight_of(step, step.rows[place_of(step, rows, r, 0, heads).row], c) : Sight{1, 0};
}

/// The power of two that brings `largest` into 2^14..2^15.
__device__ inline float up_to_half_range(float largest) {
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23);  // 127: 1
  return exponent == 0 ? 1.0f : __uint_as_float(static_cast<unsigned>(min(254, 268 - exponent)) << 23);
}

/// Pairs of a row of queries: no bank conflicts for ldmatrix.
__host__ __device__ constexpr int query_stride(int padded) { return padded / 2 + 4; }

/// Queries of all rows of the tile's 16s as parts, zeros beyond the last; a warp for a row. out: pairs,
/// (parts, kRows, query_stride()).
template<KvPrecision Precision, int kRows>
__device__ void load_queries(const Step& step, const KvLayer& l, const AttendCall& c, std::int64_t kv_head, int heads,
                             TileRows<kRows>& rows, std::uint32_t* out) {
  using Format = AttendFormat<Precision>;
  const int lane = static_cast<int>(threadIdx.x % 32), stride = query_stride(l.padded);
  for (int r = static_cast<int>(threadIdx.x / 32); r < kRows; r += static_cast<int>(blockDim.x / 32)) {
    const bool there = r < rows.count;
    const TilePlace place = place_of(step, rows, there ? r : 0, kv_head, heads);
    const float* query = c.query + (place.row * c.heads + place.head) * l.head_dim;
    const auto value = [&](int d) { return there && d < l.head_dim ? query[d] : 0.0f; };
    float up = 1.0f;
    if constexpr (Precision == KvPrecision::kF16) {
      float largest = 0.0f;
      for (int d = lane; d < l.head_dim; d += 32) largest = fmaxf(largest, fabsf(value(d)));
      for (int step_size = 16; step_size > 0; step_size /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step_size));
      up = up_to_half_range(largest);
    }
    if (lane == 0) rows.factor[r] = c.scale / up * (c.softcap > 0.0f ? 1.0f : kLogTwoE);
    for (int d = 2 * lane; d < l.padded; d += 64) {
      std::uint32_t parts[Format::kParts];
      split_pair<Format>(value(d) * up, value(d + 1) * up, parts);
#pragma unroll
      for (int p = 0; p < Format::kParts; ++p) out[(p * kRows + r) * stride + d / 2] = parts[p];
    }
  }
}

/// Sums so far and those of the next span, both relative to 2^most of their own: `before` and `now` bring them
/// together.
struct Merge {
  float most, before, now;
};
__device__ inline Merge merge_of(float most, float next) {
  if (next == -INFINITY) return {most, 1.0f, 0.0f};
  const float larger = fmaxf(most, next);
  return {larger, exp2_approx(most - larger), exp2_approx(next - larger)};
}
/// Before the first span: what a sink adds.
__device__ inline float first_most(const AttendCall& c, std::int64_t head) {
  return c.sinks ? c.sinks[head] * kLogTwoE : -INFINITY;
}
__device__ inline float first_mass(const AttendCall& c) { return c.sinks ? 1.0f : 0.0f; }

/// How many spans a step's rows may see.
inline unsigned attend_spans(const Step& step) { return blocks_for(step.positions, kSpan); }

/// What a span, of `spans`, gives a row's head: head_dim sums, then most and mass.
__device__ inline float* partial_of(const KvLayer& l, const AttendCall& c, std::int64_t row, std::int64_t head,
                                    int span, unsigned spans) {
  return c.partials + ((row * c.heads + head) * spans + span - c.spans_before) * (l.head_dim + 2);
}

}  // namespace llorch::cuda
