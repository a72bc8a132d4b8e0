// The kernel of attention, for each form of the cache (attention_f32.cu, ...).
//
// A block has kRowTiles times 16 rows of a sequence and a key head: the heads that share it, query after query. Page
// after page it multiplies them by the keys (a warp has 16 of the 64 positions), makes scores weights relative to the
// largest so far, which all warps share, and adds the weighted values (a warp has a quarter of the dimensions). So
// every key and value is read from shared memory once by a block, and a row's numbers do not depend on how many rows
// its tile has. A span's (kSpanPages) sums begin from zero, and spans are merged in order: by the block itself, in
// `out`, or by merge_kernel, where a block computes one span.
//
// Bounds on paper, H100, F16 cache, head_dim 128, 4 heads of a key head:
//   decode   a page is 32 KiB: 2,260 cycles of an SM's share of 3.35 TB/s. Its operations: 256 mma of four warps, 512
//            cycles, and 80 KiB from shared memory, 640 cycles. A block has 16 KiB on the way, an SM with 3 blocks 48
//            KiB, where 20 KiB hide the latency. So bytes are the bound; partial results add 3 %, pages of Q8_0 1,200
//            cycles of bytes and about 1,500 of instructions.
//   prefill  64 rows: 1,024 mma for a page, 2,048 cycles where mma.sync gives 1,024 of the SM's 4,096 operations a
//            cycle; operands from shared memory 224 KiB, 1,790 cycles; from L2 32 KiB, 1,300 cycles. Of the products
//            half are of the queries' and weights' lower parts: at most a quarter of the bf16 peak, 4 % of a prefill
//            of 2,048 rows of an 8B model are attention's operations.
//   wide     heads above 256 have one tile of 16 rows. Of latent attention (576) a page is 144 KiB of keys and values:
//            10,200 cycles of bytes, and 2,300 of mma, for every 16 heads; so 16 heads are bound by bytes, 128 of them
//            by what the L2 cache gives, eight times over.
//   F32      three times as many mma as F16, Q8_0 half as many again.
// Not measured.
#pragma once

#include <algorithm>

#include "cuda/kernel/attention.h"
#include "cuda/kernel/attention_operands.h"
#include "cuda/kernel/attention_rows.h"
#include "cuda/launch.h"

namespace llorch::cuda {

constexpr int kAttendDimsMax = 576;  // of values that a block sums: of wider heads it computes a part
constexpr int kAttendWarps = kPagePositions / 16, kAttendThreads = kAttendWarps * 32;

/// In shared memory; behind it two stages of pages, and the queries.
template<KvPrecision Precision, int kRowTiles>
struct AttendTile {
  static constexpr int kParts = AttendFormat<Precision>::kParts, kRows = kRowTiles * 16;
  static constexpr int kWeightStride = kPagePositions / 2 + 4;
  alignas(16) std::uint32_t weights[kParts][kRows][kWeightStride];  // pairs
  float most_of_warp[kAttendWarps][kRows], mass_of_warp[kAttendWarps][kRows];
  alignas(16) TileRows<kRows> rows;

  static constexpr int bytes(int padded) {
    return static_cast<int>(sizeof(AttendTile)) + 2 * PageStage<Precision>::bytes(padded) +
           kParts * kRows * query_stride(padded) * 4;
  }
};

/// A thread's part of a block's work. Of its row tile m it has rows 16 m + lane / 4 (h = 0) and 8 more (h = 1).
template<KvPrecision Precision, int kDims, int kRowTiles>
struct AttendThread {
  using Format = AttendFormat<Precision>;
  using Stage = PageStage<Precision>;
  using Tile = AttendTile<Precision, kRowTiles>;
  static constexpr int kTiles = Stage::kDims / 8 / kAttendWarps, kAllTiles = kDims / 8 / kAttendWarps;
  static constexpr int kChunks = (kAllTiles + kTiles - 1) / kTiles;

  const KvLayer& l;
  const AttendCall& c;
  const std::int32_t* pages;
  int kv_head;
  int last_page, first_chunk, end;  // the chunk where the values of this block begin, the dimension where they end
  Tile& tile;
  unsigned char* stages;
  std::uint32_t* queries;
  int stride, row_tiles;  // of queries; of 16 rows
  int warp, lane, group, t;
  int fetched = 0;

  float sums[kRowTiles][kAllTiles][4];
  float most[kRowTiles][2], mass[kRowTiles][2];                // of the span
  float merged_most[kRowTiles][2], merged_mass[kRowTiles][2];  // of the spans before

  [[nodiscard]] __device__ Stage stage(int number, int chunk) const {
    return {stages + number % 2 * Stage::bytes(l.padded), l.padded, chunk * Stage::kDims};
  }
  __device__ __forceinline__ void fetch(int page, int which, int chunk) {
    stage(fetched++, chunk).template fetch<kAttendThreads>(kv_half(l, pages[page], kv_head, which));
  }
  /// Waits for the chunk that was fetched, and fetches the next one.
  [[nodiscard]] __device__ __forceinline__ Stage arrive(int page, int which, int chunk) {
    copy_wait<0>();
    __syncthreads();  // it is there for all, and the other stage is not read any more
    const Stage here = stage(fetched - 1, chunk);
    if ((chunk + 1) * Stage::kDims < (which == 0 ? l.padded : end))
      fetch(page, which, chunk + 1);
    else if (which == 0)
      fetch(page, 1, first_chunk);
    else if (page < last_page)
      fetch(page + 1, 0, 0);
    return here;
  }
  [[nodiscard]] __device__ int row(int m, int h) const { return 16 * m + 8 * h + group; }

  __device__ __forceinline__ void begin_span() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) most[m][h] = -INFINITY, mass[m][h] = 0.0f;
#pragma unroll
      for (int i = 0; i < kAllTiles * 4; ++i) sums[m][i / 4][i % 4] = 0.0f;
    }
  }

  __device__ __forceinline__ void begin_merge(const Step& step, int heads) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int r = min(row(m, h), tile.rows.count - 1);
        merged_most[m][h] = first_most(c, place_of(step, tile.rows, r, kv_head, heads).head);
        merged_mass[m][h] = first_mass(c);
      }
  }

  __device__ __forceinline__ void score(const Stage& keys, float (&scores)[kRowTiles][2][4]) const {
#pragma unroll(kDims > 256 ? 1 : 4)
    for (int d = 0; d < keys.dims(); d += 16) {
      std::uint32_t b[2][Format::kCacheParts][2];
      keys.keys(16 * warp, d, lane, b);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        if (m > 0 && m >= row_tiles) break;
        std::uint32_t a[Format::kParts][4];
#pragma unroll
        for (int p = 0; p < Format::kParts; ++p)
          load_rows(queries + (p * Tile::kRows + 16 * m) * stride + (keys.first + d) / 2, stride, lane, a[p]);
#pragma unroll
        for (int n = 0; n < 2; ++n) multiply_parts<Format>(scores[m][n], a, b[n]);
      }
    }
  }

  /// Products become scores in powers of two, of positions that are not seen -infinity.
  __device__ __forceinline__ void look(int page, float (&scores)[kRowTiles][2][4]) const {
    const int first = page * kPagePositions + 16 * warp + 2 * t;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float factor = tile.rows.factor[row(m, h)];
        const Sight sight = tile.rows.sight[row(m, h)];
        float largest = -INFINITY;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& score = scores[m][i / 2][2 * h + i % 2];
          const int position = first + i / 2 * 8 + i % 2;
          score *= factor;
          if (c.softcap > 0.0f) score = c.softcap * kLogTwoE * tanhf(score / c.softcap);
          if (position < sight.oldest || position > sight.last) score = -INFINITY;
          largest = fmaxf(largest, score);
        }
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
        if (t == 0) tile.most_of_warp[warp][row(m, h)] = largest;
      }
  }

  /// Scores become weights, and all that the span has so far relative to the same.
  __device__ __forceinline__ void weigh(const float (&scores)[kRowTiles][2][4]) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int r = row(m, h);
        float largest = most[m][h];
#pragma unroll
        for (int w = 0; w < kAttendWarps; ++w) largest = fmaxf(largest, tile.most_of_warp[w][r]);
        const float shrink = largest == most[m][h] ? 1.0f : exp2_approx(most[m][h] - largest);
        const float base = largest == -INFINITY ? 0.0f : largest - Format::kWeightLog;
        most[m][h] = largest, mass[m][h] *= shrink;
#pragma unroll
        for (int i = 0; i < kAllTiles * 2; ++i) sums[m][i / 2][2 * h + i % 2] *= shrink;
        float added = 0.0f;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const float low = exp2_approx(scores[m][n][2 * h] - base), high = exp2_approx(scores[m][n][2 * h + 1] - base);
          added += low + high;
          std::uint32_t parts[Format::kParts];
          split_pair<Format>(low, high, parts);
#pragma unroll
          for (int p = 0; p < Format::kParts; ++p) tile.weights[p][r][8 * warp + 4 * n + t] = parts[p];
        }
        added += __shfl_xor_sync(kAllLanes, added, 1);
        added += __shfl_xor_sync(kAllLanes, added, 2);
        if (t == 0) tile.mass_of_warp[warp][r] = added;
      }
  }
  __device__ __forceinline__ void add_mass() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float added = 0.0f;
#pragma unroll
        for (int w = 0; w < kAttendWarps; ++w) added += tile.mass_of_warp[w][row(m, h)];
        mass[m][h] += added;
      }
  }

  /// A chunk's tile of 8 dimensions with number n of this warp.
  [[nodiscard]] __device__ int dimension(int n) const { return (n * kAttendWarps + warp) * 8; }

  template<int kChunk>
  __device__ __forceinline__ void add_values(const Stage& values) {
    const int tiles = values.dims() / 8 / kAttendWarps;
#pragma unroll 1
    for (int slot = 0; slot < kPagePositions; slot += 16) {
      std::uint32_t b[kTiles][Format::kCacheParts][2];
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
        if (n < tiles) values.values(slot, dimension(n), lane, b[n]);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        if (m > 0 && m >= row_tiles) break;
        std::uint32_t a[Format::kParts][4];
#pragma unroll
        for (int p = 0; p < Format::kParts; ++p)
          load_rows(&tile.weights[p][16 * m][slot / 2], Tile::kWeightStride, lane, a[p]);
#pragma unroll
        for (int n = 0; n < kTiles && kChunk * kTiles + n < kAllTiles; ++n)
          if (n < tiles) multiply_parts<Format>(sums[m][kChunk * kTiles + n], a, b[n]);
      }
    }
  }
  template<int kChunk>
  __device__ __forceinline__ void add_chunks(int page) {
    if constexpr (kChunk < kChunks)
      if ((first_chunk + kChunk) * Stage::kDims < end) {
        const Stage values = arrive(page, 1, first_chunk + kChunk);
        if constexpr (kChunk == 0) add_mass();
        add_values<kChunk>(values);
        add_chunks<kChunk + 1>(page);
      }
  }

  __device__ __forceinline__ void add_page(int page) {
    float scores[kRowTiles][2][4] = {};
    for (int chunk = 0; chunk * Stage::kDims < l.padded; ++chunk) score(arrive(page, 0, chunk), scores);
    look(page, scores);
    __syncthreads();
    weigh(scores);
    add_chunks<0>(page);
  }

  /// Calls visit(row, dimension, m, h, sum).
  template<class Visit>
  __device__ __forceinline__ void each_sum(const Visit& visit) {
#pragma unroll
    for (int n = 0; n < kAllTiles; ++n) {
      const int first = (first_chunk + n / kTiles) * Stage::kDims + dimension(n % kTiles) + 2 * t;
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (first + i % 2 < min(l.head_dim, end) && row(m, i / 2) < tile.rows.count)
            visit(row(m, i / 2), first + i % 2, m, i / 2, sums[m][n][i]);
      __syncwarp();  // the compiler begins no loads of the next tile before: there are not as many registers
    }
  }

  /// What the span gave joins the spans before, in `out`; after the last one it is the result.
  __device__ __forceinline__ void merge_span(const Step& step, bool first, bool last, int heads) {
    Merge merges[kRowTiles][2];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const Merge merge = merges[m][h] = merge_of(merged_most[m][h], relative_to(m, h));
        merged_most[m][h] = merge.most;
        merged_mass[m][h] = fmaf(merged_mass[m][h], merge.before, mass[m][h] * merge.now);
      }
    each_sum([&](int r, int d, int m, int h, float sum) {
      const TilePlace place = place_of(step, tile.rows, r, kv_head, heads);
      float& out = c.out[(place.row * c.heads + place.head) * l.head_dim + d];
      const float merged = fmaf(first ? 0.0f : out, merges[m][h].before, sum * merges[m][h].now);
      out = last ? merged / merged_mass[m][h] : merged;
    });
  }
  __device__ __forceinline__ void write_partial(const Step& step, int span, int heads) {
    const auto to = [&](int r) {
      const TilePlace place = place_of(step, tile.rows, r, kv_head, heads);
      return partial_of(l, c, place.row, place.head, span, gridDim.z);
    };
    each_sum([&](int r, int d, int, int, float sum) { to(r)[d] = sum; });
    if (warp != 0 || t != 0 || first_chunk != 0) return;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        if (row(m, h) < tile.rows.count)
          to(row(m, h))[l.head_dim] = relative_to(m, h), to(row(m, h))[l.head_dim + 1] = mass[m][h];
  }
  /// Sums and mass are relative to 2^ this.
  [[nodiscard]] __device__ float relative_to(int m, int h) const { return most[m][h] - Format::kWeightLog; }
};

/// Dimensions of values that a block sums, in whole chunks where it is not all.
template<KvPrecision Precision, int kDims>
__host__ __device__ constexpr int attend_part_dims(int padded) {
  constexpr int kChunk = PageStage<Precision>::kDims;
  return padded <= kDims ? padded : kDims / kChunk * kChunk;
}

template<KvPrecision Precision, int kDims, int kRowTiles>
__global__ void __launch_bounds__(kAttendThreads, kRowTiles > 1 || kDims > 256 ? 2
                                                  : kDims > 128                ? 3
                                                                : 4) attend_kernel(Step step, KvLayer l, AttendCall c) {
  using Tile = AttendTile<Precision, kRowTiles>;
  using Stage = PageStage<Precision>;
  auto& tile = *shared<Tile>();
  const int heads = c.heads / l.kv_heads, kv_head = static_cast<int>(blockIdx.y) % l.kv_heads,
            lane = static_cast<int>(threadIdx.x % 32);
  if (threadIdx.x < 32) find_tile(step, c, heads, static_cast<int>(blockIdx.x), tile.rows);
  __syncthreads();
  if (tile.rows.count == 0) return;
  find_sights(step, c, heads, tile.rows);
  __syncthreads();
  const int part = static_cast<int>(blockIdx.y) / l.kv_heads, part_dims = attend_part_dims<Precision, kDims>(l.padded);
  int first = tile.rows.sight[0].oldest / kPagePositions,
      last = tile.rows.sight[tile.rows.count - 1].last / kPagePositions;
  const int span = static_cast<int>(blockIdx.z);
  if (c.partials) first = max(first, span * kSpanPages), last = min(last, span * kSpanPages + kSpanPages - 1);
  if (first > last) return;
  auto* stages = shared<unsigned char>(sizeof(Tile));
  AttendThread<Precision, kDims, kRowTiles> thread{
      l,
      c,
      step.pages + step.sequences[tile.rows.sequence].pages[l.group],
      kv_head,
      last,
      part * (part_dims / Stage::kDims),
      min(l.padded, (part + 1) * part_dims),
      tile,
      stages,
      reinterpret_cast<std::uint32_t*>(stages + 2 * Stage::bytes(l.padded)),
      query_stride(l.padded),
      (tile.rows.count + 15) / 16,
      static_cast<int>(threadIdx.x / 32),
      lane,
      lane / 4,
      lane % 4};
  thread.fetch(first, 0, 0);
  load_queries<Precision>(step, l, c, kv_head, heads, tile.rows, thread.queries);
  thread.begin_merge(step, heads);
  thread.begin_span();
  for (int page = first, spans = 0; page <= last; ++page) {
    thread.add_page(page);
    if (page != last && page % kSpanPages != kSpanPages - 1) continue;
    if (c.partials)
      thread.write_partial(step, span, heads);
    else
      thread.merge_span(step, spans++ == 0, page == last, heads);
    thread.begin_span();
  }
}

template<KvPrecision Precision, int kDims, int kRowTiles>
void launch_attend(StreamHandle stream, const Step& step, const KvLayer& l, const AttendCall& c) {
  static_assert(kDims > 256 || AttendTile<Precision, kRowTiles>::bytes(kDims) <= (99 << 10), "what sm_86 and 89 have");
  const int rows = kRowTiles * 16, pairs = (c.end - c.first) * (c.heads / l.kv_heads);
  const dim3 grid(static_cast<unsigned>(pairs / rows + step.sequence_count),
                  static_cast<unsigned>(l.kv_heads) *
                      blocks_for(l.padded, static_cast<unsigned>(attend_part_dims<Precision, kDims>(l.padded))),
                  c.partials ? attend_spans(step) : 1);
  launch(attend_kernel<Precision, kDims, kRowTiles>, grid, kAttendThreads,
         static_cast<std::size_t>(AttendTile<Precision, kRowTiles>::bytes(l.padded)), stream, step, l, c);
}

/// Row tiles of the kernels for heads of at most 128, and at most 256 dimensions: what shared memory holds.
template<KvPrecision Precision>
constexpr int kAttendManyTiles = Precision == KvPrecision::kF32 ? 2 : 4;
constexpr int kAttendTilesOf256 = 2;

template<KvPrecision Precision>
std::size_t attend_shared_bytes_as(const KvLayer& l) {
  return static_cast<std::size_t>(l.padded > 256 ? AttendTile<Precision, 1>::bytes(l.padded)
                                  : l.padded > 128
                                      ? AttendTile<Precision, kAttendTilesOf256>::bytes(l.padded)
                                      : AttendTile<Precision, kAttendManyTiles<Precision>>::bytes(l.padded));
}

/// Chooses the kernel: one tile of rows where no sequence has more in this launch.
template<KvPrecision Precision>
void attend_as(StreamHandle stream, const Step& step, const KvLayer& l, const AttendCall& c) {
  const bool few = std::min(step.sequence_rows, c.end - c.first) * (c.heads / l.kv_heads) <= 16;
  if (l.padded > 256) return launch_attend<Precision, kAttendDimsMax, 1>(stream, step, l, c);
  if (l.padded > 128)
    return few ? launch_attend<Precision, 256, 1>(stream, step, l, c)
               : launch_attend<Precision, 256, kAttendTilesOf256>(stream, step, l, c);
  few ? launch_attend<Precision, 128, 1>(stream, step, l, c)
      : launch_attend<Precision, 128, kAttendManyTiles<Precision>>(stream, step, l, c);
}

}  // namespace llorch::cuda
