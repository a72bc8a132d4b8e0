// The kernels of products, for any form of weights (block_weights.h, plain_weights.h). Included by units of one form.
//
// A warp multiplies panels of 16 rows of the weight (the M side of mma) by tiles of 8 rows of activations (the N side),
// 32 columns at a step. Columns are cut into kSlices slices, whose borders depend on the number of columns alone; each
// slice is summed by itself, in ascending order, and then the slices in ascending order. So a row's sum is the same
// operations in both kernels and with any number of tiles:
//   split_kernel  a block has one panel, each of its 8 warps a slice: few rows. Bound: the weight's bytes. A warp has
//                 three chunks of 1 to 2 KiB on their way while it multiplies one.
//   wide_kernel   a block has 16 panels and 64 rows, each of its warps two panels and all slices: many rows. Bound:
//                 instructions. A chunk's columns of all that the block multiplies lie in shared memory, further ones
//                 are on their way; a warp unpacks codes of its panels once for 64 rows.
// Weights reach shared memory by asynchronous copies of 16 bytes, each warp's panels contiguous.
// Bounds on paper, for each form of weights: tools/cuda/budget.txt and docs/performance.md. Not measured.
#pragma once

#include "cuda/instructions.h"
#include "cuda/kernel/panel_layout.h"
#include "cuda/kernel/product_args.h"
#include "cuda/kernel/records.h"
#include "cuda/launch.h"

namespace llorch::cuda {

constexpr int kSlices = 8, kWarps = kSlices, kThreads = kWarps * kLanes;

/// The step where slice `slice` begins.
__host__ __device__ constexpr int slice_begin(int steps, int slice) {
  const int grains = (steps + kGrainSteps - 1) / kGrainSteps, begin = grains * slice / kSlices * kGrainSteps;
  return begin < steps ? begin : steps;
}

/// A lane's place in fragments.
struct Lane {
  int group, t;
  Lane() = default;
  __device__ explicit Lane(unsigned lane) : group(static_cast<int>(lane / 4)), t(static_cast<int>(lane % 4)) {}
  __device__ unsigned number() const { return static_cast<unsigned>(4 * group + t); }
};

struct InShared {
  template<class T>
  static __device__ __forceinline__ T load(const void* at) {
    return *static_cast<const T*>(at);
  }
  static __device__ __forceinline__ uint2 load8(const void* at) { return load<uint2>(at); }
  static __device__ __forceinline__ uint4 load16(const void* at) { return load<uint4>(at); }
};
struct InGlobal {
  static __device__ __forceinline__ uint2 load8(const void* at) { return cuda::load8(at); }
  static __device__ __forceinline__ uint4 load16(const void* at) { return cuda::load16(at); }
};

/// A chunk of a panel in shared memory: the bytes above its 256 columns, then its steps.
template<class Weights>
constexpr int kChunkBytes = Weights::kSuperBytes + Weights::kChunk* Weights::kStepBytes;
constexpr int kCopyBytes = 16;

/// The lane's pieces of what a warp copies: of `bytes` bytes from here on, at most kBytes; both addresses are of the
/// lane's first piece.
template<int kBytes>
__device__ __forceinline__ void copy_pieces(SharedTarget to, const std::byte* from, int bytes) {
#pragma unroll
  for (int first = 0; first < kBytes; first += kLanes * kCopyBytes)
    if (first < bytes) copy_async<kCopyBytes>(to + static_cast<unsigned>(first), from + first);
}
__device__ __forceinline__ unsigned place_of(Lane lane) { return lane.number() * kCopyBytes; }

/// Where a warp goes on copying chunks of a panel.
template<class Weights>
class PanelCursor {
 public:
  /// From a step on where a grain begins.
  __device__ PanelCursor(const std::byte* panel, int step, Lane lane)
      : at_(panel + static_cast<std::int64_t>(step / kGrainSteps) * kGrainBytes + kSuperBytes + place_of(lane)) {}
  /// The next `count` steps, the first of which is `step`.
  __device__ __forceinline__ void fetch(int step, int count, std::byte* chunk, Lane lane) {
    const int place = static_cast<int>(place_of(lane)), within = step & (kGrainSteps - 1);
    const SharedTarget to = chunk + place;
    if constexpr (kSuperBytes > 0)
      copy_pieces<kSuperBytes>(to, at_ - kSuperBytes - within * kStepBytes, kSuperBytes - place);
    copy_pieces<kBytes>(to + kSuperBytes, at_, count * kStepBytes - place);
    at_ += within + Weights::kChunk == kGrainSteps ? kBytes + kSuperBytes : kBytes;
  }

 private:
  static constexpr int kSuperBytes = Weights::kSuperBytes, kStepBytes = Weights::kStepBytes,
                       kBytes = Weights::kChunk * kStepBytes, kGrainBytes = kSuperBytes + kGrainSteps * kStepBytes;
  static_assert(kGrainSteps % Weights::kChunk == 0 && kStepBytes % kCopyBytes == 0);
  const std::byte* at_;  // of the lane's first piece of the next step
};

/// What a block multiplies: tiles from one on, of which `rows` rows are there, with a part of each matrix.
struct Work {
  int part, tile, rows;
};
__device__ __forceinline__ Work find_work(const ProductArgs& a, int number, int tiles) {
  if (!a.runs) return {0, number * tiles, a.rows - number * tiles * kTileRows};
  const ProductRun run = a.runs[number];
  return {run.part, run.tile, run.part < 0 ? 0 : run.rows};
}
/// That has the panel.
__device__ __forceinline__ LaunchedMatrix matrix_of(const ProductArgs& a, int panel) {
  LaunchedMatrix out = a.matrices[0];
#pragma unroll
  for (int i = 1; i < kMatricesMax; ++i)
    if (i < a.matrix_count && panel >= a.matrices[i].first_panel) out = a.matrices[i];
  return out;
}
__device__ __forceinline__ const std::byte* panel_at(const ProductArgs& a, const Work& work, int panel) {
  const LaunchedMatrix matrix = matrix_of(a, panel);
  const std::int64_t panels = (matrix.outputs + kPanelRows - 1) / kPanelRows;
  return matrix.weights + (work.part * panels + panel - matrix.first_panel) * a.panel_bytes;
}

/// The tile's records; a tile that is not there: the last one, and nothing is written.
template<class Weights>
__device__ __forceinline__ const typename Weights::Record* records_at(const ProductArgs& a, int tile) {
  return static_cast<const typename Weights::Record*>(a.records) +
         static_cast<std::int64_t>(min(tile, a.tiles - 1)) * a.steps;
}

/// Of the four sums of a lane for a tile (D of mma): 0 and 1 are of the panel's row 2 group, 2 and 3 of 2 group + 1; 0
/// and 2 are of the tile's row 2t, 1 and 3 of 2t + 1.
__device__ __forceinline__ void write_sum(const ProductArgs& a, const LaunchedMatrix& matrix, const Work& work,
                                          int panel, int tile, Lane lane, int i, float sum) {
  const int output = (panel - matrix.first_panel) * kPanelRows + 2 * lane.group + i / 2,
            row = tile * kTileRows + 2 * lane.t + i % 2;
  if (output >= matrix.outputs || row >= work.rows) return;
  const int slot = work.tile * kTileRows + row;
  const std::int64_t out_row = a.out_rows ? a.out_rows[slot] : slot,
                     of_bias = static_cast<std::int64_t>(work.part) * matrix.outputs + output;
  matrix.out[out_row * matrix.out_stride + output] = matrix.bias ? sum + __ldg(matrix.bias + of_bias) : sum;
}

/// For tools/cuda/budget: what a warp multiplies, and how far it copies ahead.
template<class Weights, int kPanels, int kTiles, int kChunksAhead, int kSharedBytes>
__device__ __forceinline__ void note_tile() {
  note<kPanels, kTiles, kTileRows * kPanelRows * kStepColumns, Weights::kMmas, Weights::kChunk, kChunksAhead,
       Weights::kStepBytes, Weights::kSuperBytes, static_cast<int>(sizeof(typename Weights::Record)), kSharedBytes>();
}

template<class Weights>
constexpr int kRingChunks = kChunkBytes<Weights> > 1280 ? 3 : 4;
/// Shared memory of one warp of split_kernel.
template<class Weights, int kTiles>
union SplitRoom {
  alignas(16) std::byte ring[kRingChunks<Weights>][kChunkBytes<Weights>];
  float sums[kTiles * 4][kLanes];
};

template<class Weights, int kTiles>
constexpr int kSplitBytes = kWarps* static_cast<int>(sizeof(SplitRoom<Weights, kTiles>));

/// A tile's records as a lane reads them. Rows that are not there: the last one, so that nothing more is read; what
/// comes of them is not written.
template<class Weights>
struct TileSource {
  const typename Weights::Record* records;  // of the next step
  Lane lane;
};

/// The first `count` steps of a chunk, at most kCount.
template<class Weights, int kTiles, int kCount>
__device__ __forceinline__ void add_chunk(const std::byte* chunk, int count, Lane lane,
                                          const TileSource<Weights> (&tiles)[kTiles], float (&sums)[kTiles][4]) {
  const auto supers = Weights::supers(chunk, lane);
#pragma unroll(kTiles == 4 ? 1 : kCount)
  for (int s = 0; s < kCount; ++s) {
    if (s >= count) continue;
    const auto weights = Weights::fragment(chunk, s, supers, lane);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const auto x = Weights::template columns<InGlobal>(tiles[i].records[s], tiles[i].lane);
      Weights::template multiply<InGlobal>(weights, x, lane, sums[i]);
    }
  }
}

/// A slice of one panel by one warp.
template<class Weights, int kTiles>
__device__ __forceinline__ void add_slice(const ProductArgs& a, const Work& work, const std::byte* panel, int first,
                                          int last, Lane lane, SplitRoom<Weights, kTiles>& room,
                                          float (&sums)[kTiles][4]) {
  constexpr int kChunk = Weights::kChunk, kAhead = kRingChunks<Weights> - 1;
  constexpr unsigned kRing = kAhead + 1;
  TileSource<Weights> tiles[kTiles];
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    tiles[i] = {records_at<Weights>(a, work.tile + i) + first, lane};
    tiles[i].lane.group = max(min(lane.group, work.rows - i * kTileRows - 1), 0);
  }
  PanelCursor<Weights> cursor(panel, first, lane);
  const auto fetch = [&](int step, unsigned where) {
    if (step < last) cursor.fetch(step, min(kChunk, last - step), room.ring[where], lane);
    copy_commit();
  };
#pragma unroll
  for (int i = 0; i < kAhead; ++i) fetch(first + i * kChunk, static_cast<unsigned>(i));
  unsigned here = 0;
  for (int step = first; step < last; step += kChunk, here = (here + 1) % kRing) {
    copy_wait<kAhead - 1>();
    __syncwarp();  // the chunk is there for all lanes, and all are done with the one before
    fetch(step + kAhead * kChunk, (here + kAhead) % kRing);
    if (kChunk == 1 || step + kChunk <= last) {
      add_chunk<Weights, kTiles, kChunk>(room.ring[here], kChunk, lane, tiles, sums);
    } else if constexpr (kChunk > 1) {
      add_chunk<Weights, kTiles, kChunk - 1>(room.ring[here], last - step, lane, tiles, sums);
    }
#pragma unroll
    for (int i = 0; i < kTiles; ++i) tiles[i].records += kChunk;
  }
  __syncwarp();  // the ring is free
}

template<class Weights, int kTiles>
__global__ void __launch_bounds__(kThreads, kTiles == 1 ? 3 : 2) split_kernel(ProductArgs a) {
  note_tile<Weights, 1, kTiles, kRingChunks<Weights> - 1, kSplitBytes<Weights, kTiles>>();
  auto* rooms = shared<SplitRoom<Weights, kTiles>>();
  const Lane lane(threadIdx.x % kLanes);
  const int slice = static_cast<int>(threadIdx.x / kLanes), panel = static_cast<int>(blockIdx.x);
  const Work work = find_work(a, static_cast<int>(blockIdx.y), kTiles);
  if (work.rows <= 0) return;
  float sums[kTiles][4] = {};
  add_slice<Weights, kTiles>(a, work, panel_at(a, work, panel), slice_begin(a.steps, slice),
                             slice_begin(a.steps, slice + 1), lane, rooms[slice], sums);
#pragma unroll
  for (int i = 0; i < kTiles * 4; ++i) rooms[slice].sums[i][lane.number()] = sums[i / 4][i % 4];
  __syncthreads();
  const LaunchedMatrix matrix = matrix_of(a, panel);
  for (int i = slice; i < kTiles * 4; i += kWarps) {
    float sum = rooms[0].sums[i][lane.number()];
#pragma unroll
    for (int s = 1; s < kSlices; ++s) sum += rooms[s].sums[i][lane.number()];
    write_sum(a, matrix, work, panel, i / 4, lane, i % 4, sum);
  }
}

constexpr int kFewTiles = 4, kWideTiles = 8;
constexpr int kWarpPanels = 2, kWidePanels = kWarps * kWarpPanels;

/// A chunk's columns of all that a block of wide_kernel multiplies.
template<class Weights>
struct WideStage {
  alignas(16) std::byte weights[kWidePanels][kChunkBytes<Weights>];
  typename Weights::Record records[kWideTiles][Weights::kChunk];
};
/// As many as a block may have of shared memory on compute capability 8.6 (99 KiB); four are enough.
template<class Weights>
constexpr int kWideStages = static_cast<int>(99 * 1024 / sizeof(WideStage<Weights>) < 4
                                                 ? 99 * 1024 / sizeof(WideStage<Weights>)
                                                 : 4);

template<class Weights>
constexpr int kWideBytes = kWideStages<Weights>* static_cast<int>(sizeof(WideStage<Weights>));

/// What a warp of wide_kernel copies: two panels, and one of the tiles.
template<class Weights>
struct WideSource {
  PanelCursor<Weights> panels[kWarpPanels];
  const std::byte* records;  // of the lane's first piece of the next step's
};
template<class Weights>
__device__ __forceinline__ void fetch_stage(WideSource<Weights>& from, int step, int steps, Lane lane,
                                            WideStage<Weights>& stage) {
  static_assert(kWideTiles == kWarps);
  constexpr int kChunk = Weights::kChunk, kRecordBytes = static_cast<int>(sizeof(typename Weights::Record));
  const unsigned warp = threadIdx.x / kLanes;
  const int count = min(kChunk, steps - step);
  if (count > 0) {
#pragma unroll
    for (int p = 0; p < kWarpPanels; ++p)
      from.panels[p].fetch(step, count, stage.weights[warp * kWarpPanels + p], lane);
    copy_pieces<kChunk * kRecordBytes>(reinterpret_cast<std::byte*>(stage.records[warp]) + place_of(lane), from.records,
                                       count * kRecordBytes - static_cast<int>(place_of(lane)));
    from.records += kChunk * kRecordBytes;
  }
  copy_commit();
}

/// The first `count` steps of the stage, for the panels of a warp.
template<class Weights>
__device__ __forceinline__ void add_stage(const WideStage<Weights>& stage, int count, Lane lane,
                                          float (&sums)[kWarpPanels][kWideTiles][4]) {
  const auto* chunks = stage.weights + threadIdx.x / kLanes * kWarpPanels;
  typename Weights::Supers supers[kWarpPanels];
#pragma unroll
  for (int p = 0; p < kWarpPanels; ++p) supers[p] = Weights::supers(chunks[p], lane);
#pragma unroll 1
  for (int s = 0; s < count; ++s) {
    typename Weights::Fragment weights[kWarpPanels];
#pragma unroll
    for (int p = 0; p < kWarpPanels; ++p) weights[p] = Weights::fragment(chunks[p], s, supers[p], lane);
#pragma unroll
    for (int i = 0; i < kWideTiles; ++i) {
      if (i > 0 && i % Weights::kTogether == 0) __syncwarp();  // loads of more tiles would not find registers
      const auto x = Weights::template columns<InShared>(stage.records[i][s], lane);
#pragma unroll
      for (int p = 0; p < kWarpPanels; ++p) Weights::template multiply<InShared>(weights[p], x, lane, sums[p][i]);
    }
  }
}

template<class Weights>
__global__ void __launch_bounds__(kThreads, 1) wide_kernel(ProductArgs a) {
  constexpr int kChunk = Weights::kChunk, kAhead = kWideStages<Weights> - 1;
  constexpr unsigned kStages = kAhead + 1;
  static_assert(kAhead >= 1);
  note_tile<Weights, kWarpPanels, kWideTiles, kAhead, kWideBytes<Weights>>();
  auto* stages = shared<WideStage<Weights>>();
  const Lane lane(threadIdx.x % kLanes);
  const int warp = static_cast<int>(threadIdx.x / kLanes),
            first_panel = static_cast<int>(blockIdx.y) * kWidePanels + warp * kWarpPanels;
  const Work work = find_work(a, static_cast<int>(blockIdx.x), kWideTiles);
  if (work.rows <= 0) return;
  const auto cursor = [&](int p) {  // of a panel that is not there: the last one, and nothing is written
    return PanelCursor<Weights>(panel_at(a, work, min(first_panel + p, a.panels - 1)), 0, lane);
  };
  static_assert(kWarpPanels == 2);
  WideSource<Weights> source{
      {cursor(0), cursor(1)},
      reinterpret_cast<const std::byte*>(records_at<Weights>(a, work.tile + warp)) + place_of(lane)};
  for (int i = 0; i < kAhead; ++i) fetch_stage<Weights>(source, i * kChunk, a.steps, lane, stages[i]);
  constexpr int kSums = kWarpPanels * kWideTiles * 4;
  float totals[kWarpPanels][kWideTiles][4];
#pragma unroll
  for (int i = 0; i < kSums; ++i)
    totals[i / 4 / kWideTiles][i / 4 % kWideTiles][i % 4] = -0.0f;  // and what is added has the bits of the first slice
  int step = 0;
  unsigned here = 0;
  for (int slice = 0; slice < kSlices; ++slice) {
    float sums[kWarpPanels][kWideTiles][4] = {};
    for (const int last = slice_begin(a.steps, slice + 1); step < last; step += kChunk, here = (here + 1) % kStages) {
      copy_wait<kAhead - 1>();
      __syncthreads();  // the stage is there for all warps, and all are done with the one before
      fetch_stage<Weights>(source, step + kAhead * kChunk, a.steps, lane, stages[(here + kAhead) % kStages]);
      if (first_panel < a.panels) add_stage<Weights>(stages[here], min(kChunk, last - step), lane, sums);
    }
#pragma unroll
    for (int i = 0; i < kSums; ++i)
      totals[i / 4 / kWideTiles][i / 4 % kWideTiles][i % 4] += sums[i / 4 / kWideTiles][i / 4 % kWideTiles][i % 4];
  }
#pragma unroll
  for (int p = 0; p < kWarpPanels; ++p) {
    if (first_panel + p >= a.panels) continue;
    const LaunchedMatrix matrix = matrix_of(a, first_panel + p);
#pragma unroll
    for (int i = 0; i < kWideTiles * 4; ++i)
      write_sum(a, matrix, work, first_panel + p, i / 4, lane, i % 4, totals[p][i / 4][i % 4]);
  }
}

template<class Weights, int kTiles>
void launch_split(StreamHandle stream, const ProductArgs& a, int count) {
  const dim3 grid(static_cast<unsigned>(a.panels), static_cast<unsigned>(count));
  launch(split_kernel<Weights, kTiles>, grid, kThreads, kSplitBytes<Weights, kTiles>, stream, a);
}
template<class Weights>
void launch_wide(StreamHandle stream, const ProductArgs& a, int count) {
  const dim3 grid(static_cast<unsigned>(count), static_cast<unsigned>((a.panels + kWidePanels - 1) / kWidePanels));
  launch(wide_kernel<Weights>, grid, kThreads, kWideBytes<Weights>, stream, a);
}

template<class Weights>
void multiply_runs(StreamHandle stream, const ProductArgs& a) {
  if (a.run_tiles == 1) return launch_split<Weights, 1>(stream, a, a.run_count);
  if (a.run_tiles == kFewTiles) return launch_split<Weights, kFewTiles>(stream, a, a.run_count);
  launch_wide<Weights>(stream, a, a.run_count);
}

/// Chooses the kernel.
template<class Weights>
void multiply_as(StreamHandle stream, const ProductArgs& a) {
  if (a.runs) return multiply_runs<Weights>(stream, a);
  constexpr int kBlocksFromWide = 96;  // most multiprocessors of an H100 have one
  const auto runs_of = [&](int tiles) { return (a.tiles + tiles - 1) / tiles; };
  const int blocks = runs_of(kWideTiles) * ((a.panels + kWidePanels - 1) / kWidePanels);
  const bool wide = a.kernel == ProductKernel::kChosen ? a.tiles > kFewTiles && blocks >= kBlocksFromWide
                                                       : a.kernel == ProductKernel::kWide;
  if (wide) return launch_wide<Weights>(stream, a, runs_of(kWideTiles));
  if (a.tiles == 1) return launch_split<Weights, 1>(stream, a, 1);
  if (a.tiles == 2) return launch_split<Weights, 2>(stream, a, 1);
  launch_split<Weights, kFewTiles>(stream, a, runs_of(kFewTiles));
}

}  // namespace llorch::cuda
