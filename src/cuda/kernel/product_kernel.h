// The kernels of products, for any form of weights (block_weights.h, plain_weights.h). Included by units of one form.
//
// A warp multiplies a panel of 16 rows of the weight (the M side of mma) by kTiles tiles of 8 rows of activations (the
// N side), 32 columns at a step. Columns are cut into kSlices slices, whose borders depend on the number of columns
// alone; each slice is summed by itself, in ascending order, and then the slices in ascending order. So a row's sum is
// the same operations in both kernels and with any kTiles:
//   split_kernel  a block has one panel, each of its 8 warps a slice: few rows. Bound: the weight's bytes. A warp has
//                 two chunks of planes on the way (0.5 to 2 KiB), an SM's 24 warps 12 KiB and more, which is what
//                 3.35 TB/s times 0.5 us ask of each of 132 SMs. Operations: 45 instructions of a warp for 32 columns
//                 of a nibble format (256 bytes of planes), 50 % of what an H100 issues in the time of these bytes.
//   wide_kernel   a block has 8 panels, each of its warps all slices of one: many rows. Bound: instructions. 12 float
//                 instructions go with one mma of a tile (16 x 8 x 32) and formats with minimums; at one a cycle a
//                 quarter SM does 8,192 operations in 16 cycles: half of the bf16 peak of an H100, at most.
// Both are paper figures: not measured.
#pragma once

#include "cuda/instructions.h"
#include "cuda/kernel/product_args.h"
#include "cuda/kernel/records.h"
#include "cuda/launch.h"

namespace llorch::cuda {

constexpr int kPanelRows = 16, kSlices = 8, kWarps = kSlices;
constexpr int kSliceGrain = 8;  // steps: 256 columns, the largest block

/// The step where slice `slice` begins.
__host__ __device__ constexpr int slice_begin(int steps, int slice) {
  const int grains = (steps + kSliceGrain - 1) / kSliceGrain, begin = grains * slice / kSlices * kSliceGrain;
  return begin < steps ? begin : steps;
}

/// A lane's place in fragments. Rows `group` and `group + 8` of a fragment are 2 group and 2 group + 1 of the panel: a
/// lane has both by one load, a warp by loads of whole vectors of the panel.
struct Lane {
  int group, t;
  __device__ explicit Lane(unsigned lane) : group(static_cast<int>(lane / 4)), t(static_cast<int>(lane % 4)) {}
  __device__ unsigned number() const { return static_cast<unsigned>(4 * group + t); }
};

/// What a warp multiplies with its panel: kTiles records of a step, of which the rows below `rows` are there.
template<class Record>
struct Tiles {
  const Record* records;  // of the first step
  int stride;             // records of a step
  int rows;
};

/// Of the four sums of a lane for a tile (D of mma): 0 and 1 are of the panel's row `group`, 2 and 3 of group + 8; 0
/// and 2 are of the tile's row 2t, 1 and 3 of 2t + 1.
template<class Weights, int kTiles>
__device__ __forceinline__ void add_steps(const Weights& weights, const Tiles<typename Weights::Record>& tiles,
                                          int first, int last, float (&sums)[kTiles][4]) {
  constexpr int kChunk = Weights::kChunk;
  constexpr bool kAhead = kTiles < 8;  // a chunk of weights on the way while one is multiplied: where those are few
  typename Weights::Chunk now{}, next{};
  if (kAhead && first < last) weights.load(first, last, next);
  for (int step = first; step < last; step += kChunk) {
    if constexpr (kAhead) {
      now = next;
      if (step + kChunk < last) weights.load(step + kChunk, last, next);
    } else {
      weights.load(step, last, now);
    }
#pragma unroll
    for (int s = 0; s < kChunk; ++s)
      if (step + s < last)
        weights.template add<kTiles>(now, step, s, tiles.records + static_cast<std::int64_t>(step + s) * tiles.stride,
                                     tiles.rows, sums);
  }
}

/// What a block multiplies: tiles from one on, of which `rows` rows are there.
struct Work {
  const std::byte* weights;
  const float* bias;
  int tile, rows;
};
__device__ __forceinline__ Work find_work(const ProductArgs& a, int number, int tiles) {
  if (!a.runs) return {a.weights, a.bias, number * tiles, a.rows - number * tiles * kTileRows};
  const ProductRun run = a.runs[number];
  if (run.part < 0) return {a.weights, a.bias, 0, 0};
  return {a.weights + run.part * a.part_bytes,
          a.bias ? a.bias + static_cast<std::int64_t>(run.part) * a.outputs : nullptr, run.tile, run.rows};
}

template<class Weights>
__device__ __forceinline__ Weights weights_of(const ProductArgs& a, const Work& work, int panel, Lane lane) {
  return Weights(work.weights + panel * a.panel_bytes, a.columns, lane);
}
template<class Record>
__device__ __forceinline__ Tiles<Record> tiles_of(const ProductArgs& a, const Work& work) {
  return {static_cast<const Record*>(a.records) + work.tile, a.tiles, work.rows};
}

/// Writes one sum, of tile `tile` of the work; `i` is one of a lane's four.
__device__ __forceinline__ void write_sum(const ProductArgs& a, const Work& work, int panel, int tile, Lane lane, int i,
                                          float sum) {
  const int output = panel * kPanelRows + 2 * lane.group + i / 2, row = tile * kTileRows + 2 * lane.t + i % 2;
  if (output >= a.outputs || row >= work.rows) return;
  const int slot = work.tile * kTileRows + row;
  const std::int64_t out_row = a.out_rows ? a.out_rows[slot] : slot;
  a.out[out_row * a.out_stride + output] = work.bias ? sum + __ldg(work.bias + output) : sum;
}

template<int kTiles>
struct SplitTile {
  float sums[kSlices][kTiles * 4][32];
};

template<class Weights, int kTiles>
__global__ void __launch_bounds__(kWarps * 32, kTiles == 1 ? 3 : 2) split_kernel(ProductArgs a) {
  auto& shared_sums = *shared<SplitTile<kTiles>>();
  const Lane lane(threadIdx.x % 32);
  const int slice = static_cast<int>(threadIdx.x / 32), panel = static_cast<int>(blockIdx.x);
  const Work work = find_work(a, static_cast<int>(blockIdx.y), kTiles);
  if (work.rows <= 0) return;
  float sums[kTiles][4] = {};
  add_steps<Weights, kTiles>(weights_of<Weights>(a, work, panel, lane), tiles_of<typename Weights::Record>(a, work),
                             slice_begin(a.steps, slice), slice_begin(a.steps, slice + 1), sums);
#pragma unroll
  for (int i = 0; i < kTiles * 4; ++i) shared_sums.sums[slice][i][lane.number()] = sums[i / 4][i % 4];
  __syncthreads();
  for (int i = slice; i < kTiles * 4; i += kWarps) {
    float sum = shared_sums.sums[0][i][lane.number()];
#pragma unroll
    for (int s = 1; s < kSlices; ++s) sum += shared_sums.sums[s][i][lane.number()];
    write_sum(a, work, panel, i / 4, lane, i % 4, sum);
  }
}

/// Sums of slices wait in shared memory, each thread's own: registers are for the slice.
template<int kTiles>
struct WideTile {
  float sums[kTiles * 4][kWarps * 32];
};

template<class Weights, int kTiles>
__global__ void __launch_bounds__(kWarps * 32, 2) wide_kernel(ProductArgs a) {
  auto& shared_sums = *shared<WideTile<kTiles>>();
  const Lane lane(threadIdx.x % 32);
  const int panel = static_cast<int>(blockIdx.y * kWarps + threadIdx.x / 32);
  const Work work = find_work(a, static_cast<int>(blockIdx.x), kTiles);
  if (panel >= a.panels || work.rows <= 0) return;
  const auto weights = weights_of<Weights>(a, work, panel, lane);
  const auto tiles = tiles_of<typename Weights::Record>(a, work);
  for (int slice = 0; slice < kSlices; ++slice) {
    float sums[kTiles][4] = {};
    add_steps<Weights, kTiles>(weights, tiles, slice_begin(a.steps, slice), slice_begin(a.steps, slice + 1), sums);
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) {
      float& sum = shared_sums.sums[i][threadIdx.x];
      sum = slice == 0 ? sums[i / 4][i % 4] : sum + sums[i / 4][i % 4];
    }
  }
  for (int i = 0; i < kTiles * 4; ++i) write_sum(a, work, panel, i / 4, lane, i % 4, shared_sums.sums[i][threadIdx.x]);
}

template<class Weights, int kTiles>
void launch_split(StreamHandle stream, const ProductArgs& a, int count) {
  const dim3 grid(static_cast<unsigned>(a.panels), static_cast<unsigned>(count));
  launch(split_kernel<Weights, kTiles>, grid, kWarps * 32, sizeof(SplitTile<kTiles>), stream, a);
}
template<class Weights, int kTiles>
void launch_wide(StreamHandle stream, const ProductArgs& a, int count) {
  const dim3 grid(static_cast<unsigned>(count), static_cast<unsigned>((a.panels + kWarps - 1) / kWarps));
  launch(wide_kernel<Weights, kTiles>, grid, kWarps * 32, sizeof(WideTile<kTiles>), stream, a);
}

constexpr int kFewTiles = 4, kManyTiles = 8;

template<class Weights>
void multiply_runs(StreamHandle stream, const ProductArgs& a) {
  if (a.run_tiles == 1) return launch_split<Weights, 1>(stream, a, a.run_count);
  if (a.run_tiles == kFewTiles) return launch_split<Weights, kFewTiles>(stream, a, a.run_count);
  launch_wide<Weights, kManyTiles>(stream, a, a.run_count);
}

/// Chooses the kernel.
template<class Weights>
void multiply_as(StreamHandle stream, const ProductArgs& a) {
  if (a.runs) return multiply_runs<Weights>(stream, a);
  constexpr int kBlocksFromWide = 128;  // about one for each multiprocessor
  const auto runs_of = [&](int tiles) { return (a.tiles + tiles - 1) / tiles; };
  const int blocks = runs_of(kManyTiles) * ((a.panels + kWarps - 1) / kWarps);
  const bool wide = a.kernel == ProductKernel::kChosen ? a.tiles > kFewTiles && blocks >= kBlocksFromWide
                                                       : a.kernel == ProductKernel::kWide;
  if (wide) return launch_wide<Weights, kManyTiles>(stream, a, runs_of(kManyTiles));
  if (a.tiles == 1) return launch_split<Weights, 1>(stream, a, 1);
  launch_split<Weights, kFewTiles>(stream, a, runs_of(kFewTiles));
}

}  // namespace llorch::cuda
