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
constexpr int kChunkBytes = Weights::kSuperBytes + Weights::kChunk * Weights::kStepBytes;
constexpr int kCopyBytes = 16;

/// A warp copies the steps from `step` on, as many as a chunk has and there are before `last`.
template<class Weights>
__device__ __forceinline__ void fetch_chunk(const std::byte* panel, int step, int last, std::byte* chunk, Lane lane) {
  constexpr int kGrainBytes = Weights::kSuperBytes + kGrainSteps * Weights::kStepBytes;
  static_assert(kGrainSteps % Weights::kChunk == 0 && kChunkBytes<Weights> % kCopyBytes == 0);
  const int count = min(Weights::kChunk, last - step), place = static_cast<int>(lane.number()) * kCopyBytes;
  if (count <= 0) return;
  const std::byte* grain = panel + static_cast<std::int64_t>(step / kGrainSteps) * kGrainBytes;
  if constexpr (Weights::kSuperBytes > 0) {
    if (place < Weights::kSuperBytes) copy_async<kCopyBytes>(chunk + place, grain + place);
  }
  const std::byte* steps = grain + Weights::kSuperBytes + step % kGrainSteps * Weights::kStepBytes;
#pragma unroll
  for (int first = 0; first < Weights::kChunk * Weights::kStepBytes; first += kLanes * kCopyBytes)
    if (first + place < count * Weights::kStepBytes)
      copy_async<kCopyBytes>(chunk + Weights::kSuperBytes + first + place, steps + first + place);
}

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

constexpr int kRingChunks = 4;
/// Shared memory of one warp of split_kernel.
template<class Weights, int kTiles>
union SplitRoom {
  alignas(16) std::byte ring[kRingChunks][kChunkBytes<Weights>];
  float sums[kTiles * 4][kLanes];
};

/// A slice of one panel by one warp.
template<class Weights, int kTiles>
__device__ __forceinline__ void add_slice(const ProductArgs& a, const Work& work, const std::byte* panel, int first,
                                          int last, Lane lane, SplitRoom<Weights, kTiles>& room,
                                          float (&sums)[kTiles][4]) {
  constexpr int kChunk = Weights::kChunk;
  const auto* records = static_cast<const typename Weights::Record*>(a.records) + work.tile;
#pragma unroll
  for (int i = 0; i < kRingChunks - 1; ++i) {
    fetch_chunk<Weights>(panel, first + i * kChunk, last, room.ring[i], lane);
    copy_commit();
  }
  int here = 0;
  for (int step = first; step < last; step += kChunk, here = (here + 1) % kRingChunks) {
    copy_wait<kRingChunks - 2>();
    __syncwarp();  // the chunk is there for all lanes, and all are done with the one before
    fetch_chunk<Weights>(panel, step + (kRingChunks - 1) * kChunk, last,
                         room.ring[(here + kRingChunks - 1) % kRingChunks], lane);
    copy_commit();
#pragma unroll
    for (int s = 0; s < kChunk; ++s) {
      if (step + s >= last) continue;
      const auto weights = Weights::fragment(room.ring[here], s, lane);
      const auto* tiles = records + static_cast<std::int64_t>(step + s) * a.tiles;
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const auto x = Weights::template columns<InGlobal>(tiles[i], i * kTileRows + lane.group < work.rows, lane);
        Weights::template multiply<InGlobal>(weights, x, lane, sums[i]);
      }
    }
  }
  __syncwarp();  // the ring is free
}

template<class Weights, int kTiles>
__global__ void __launch_bounds__(kThreads, kTiles == 1 ? 3 : 2) split_kernel(ProductArgs a) {
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
  typename Weights::Record records[Weights::kChunk][kWideTiles];
};
/// As many as a block may have of shared memory on compute capability 8.6 (99 KiB); four are enough.
template<class Weights>
constexpr int kWideStages = static_cast<int>(99 * 1024 / sizeof(WideStage<Weights>) < 4
                                                 ? 99 * 1024 / sizeof(WideStage<Weights>)
                                                 : 4);

/// The block copies the activations of a chunk, each warp the weights of its panels.
template<class Weights>
__device__ __forceinline__ void fetch_stage(const ProductArgs& a, const Work& work,
                                            const std::byte* const (&panels)[kWarpPanels], int step, Lane lane,
                                            WideStage<Weights>& stage) {
  using Record = typename Weights::Record;
  const unsigned warp = threadIdx.x / kLanes;
#pragma unroll
  for (int p = 0; p < kWarpPanels; ++p)
    fetch_chunk<Weights>(panels[p], step, a.steps, stage.weights[warp * kWarpPanels + p], lane);
  constexpr int kBytes = kWideTiles * static_cast<int>(sizeof(Record));
#pragma unroll
  for (int s = 0; s < Weights::kChunk; ++s) {
    if (step + s >= a.steps) continue;
    const auto* from = reinterpret_cast<const std::byte*>(static_cast<const Record*>(a.records) + work.tile +
                                                          static_cast<std::int64_t>(step + s) * a.tiles);
    auto* to = reinterpret_cast<std::byte*>(stage.records[s]);
    for (int at = static_cast<int>(threadIdx.x) * kCopyBytes; at < kBytes; at += kThreads * kCopyBytes)
      copy_async<kCopyBytes>(to + at, from + at);
  }
}

/// The first `count` steps of the stage, for the panels of a warp.
template<class Weights>
__device__ __forceinline__ void add_stage(const WideStage<Weights>& stage, int count, Lane lane,
                                          float (&sums)[kWarpPanels][kWideTiles][4]) {
  const unsigned warp = threadIdx.x / kLanes;
#pragma unroll 1
  for (int s = 0; s < count; ++s) {
    typename Weights::Fragment weights[kWarpPanels];
#pragma unroll
    for (int p = 0; p < kWarpPanels; ++p)
      weights[p] = Weights::fragment(stage.weights[warp * kWarpPanels + p], s, lane);
#pragma unroll
    for (int i = 0; i < kWideTiles; ++i) {
      const auto x = Weights::template columns<InShared>(stage.records[s][i], true, lane);
#pragma unroll
      for (int p = 0; p < kWarpPanels; ++p) Weights::template multiply<InShared>(weights[p], x, lane, sums[p][i]);
    }
  }
}

template<class Weights>
__global__ void __launch_bounds__(kThreads, 1) wide_kernel(ProductArgs a) {
  constexpr int kChunk = Weights::kChunk, kStages = kWideStages<Weights>;
  static_assert(kStages >= 2);
  auto* stages = shared<WideStage<Weights>>();
  const Lane lane(threadIdx.x % kLanes);
  const int first_panel = static_cast<int>(blockIdx.y) * kWidePanels +
                          static_cast<int>(threadIdx.x / kLanes) * kWarpPanels;
  const Work work = find_work(a, static_cast<int>(blockIdx.x), kWideTiles);
  if (work.rows <= 0) return;
  const std::byte* panels[kWarpPanels];
#pragma unroll
  for (int p = 0; p < kWarpPanels; ++p)  // a panel that is not there: the last one, and nothing is written
    panels[p] = panel_at(a, work, min(first_panel + p, a.panels - 1));
  for (int i = 0; i < kStages - 1; ++i) {
    fetch_stage<Weights>(a, work, panels, i * kChunk, lane, stages[i]);
    copy_commit();
  }
  float totals[kWarpPanels][kWideTiles][4];
  int step = 0, here = 0;
  for (int slice = 0; slice < kSlices; ++slice) {
    float sums[kWarpPanels][kWideTiles][4] = {};
    for (const int last = slice_begin(a.steps, slice + 1); step < last; step += kChunk, here = (here + 1) % kStages) {
      copy_wait<kStages - 2>();
      __syncthreads();  // the stage is there for all warps, and all are done with the one before
      fetch_stage<Weights>(a, work, panels, step + (kStages - 1) * kChunk, lane,
                           stages[(here + kStages - 1) % kStages]);
      copy_commit();
      if (first_panel < a.panels) add_stage<Weights>(stages[here], min(kChunk, last - step), lane, sums);
    }
#pragma unroll
    for (int i = 0; i < kWarpPanels * kWideTiles * 4; ++i) {
      float& total = totals[i / 4 / kWideTiles][i / 4 % kWideTiles][i % 4];
      const float sum = sums[i / 4 / kWideTiles][i / 4 % kWideTiles][i % 4];
      total = slice == 0 ? sum : total + sum;
    }
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
  launch(split_kernel<Weights, kTiles>, grid, kThreads, kWarps * sizeof(SplitRoom<Weights, kTiles>), stream, a);
}
template<class Weights>
void launch_wide(StreamHandle stream, const ProductArgs& a, int count) {
  const dim3 grid(static_cast<unsigned>(count), static_cast<unsigned>((a.panels + kWidePanels - 1) / kWidePanels));
  launch(wide_kernel<Weights>, grid, kThreads, kWideStages<Weights> * sizeof(WideStage<Weights>), stream, a);
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
  launch_split<Weights, kFewTiles>(stream, a, runs_of(kFewTiles));
}

}  // namespace llorch::cuda
