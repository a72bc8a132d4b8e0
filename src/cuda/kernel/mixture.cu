// Mixtures on the device. Pairs of a row and one of its experts are sorted by expert into slots, tiles of 8 rows that
// one expert multiplies; products look their expert up (ProductRun). Tables and grids have the size of the worst case:
// blocks without work end at once.
//
// Bounds: products as in product_kernel.h, of the active experts' bytes; the sorting is latency: pairs / 32 steps of a
// warp for each of experts / 8, about 2 us for a decoded row, 10 us for 1,024 rows of 8 experts.
#include "cuda/kernel/mixture.h"

#include <algorithm>
#include <initializer_list>

#include "cuda/kernel/activated.h"
#include "cuda/kernel/block.h"
#include "cuda/kernel/product_args.h"
#include "cuda/kernel/records.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 128, kGroupThreads = 256;
constexpr std::int64_t kRowsMax = 1024;  // at a time: room

struct GroupCall {
  const std::int32_t* chosen;  // expert of each pair
  int pairs, experts;
  int tiles, runs, run_tiles;  // entries of the tables; tiles of a run
  std::int32_t* slots;         // (tiles, 8): pair, or -1
  ProductRun* run_table;
};

__device__ int tiles_of_rows(int rows) { return (rows + kTileRows - 1) / kTileRows; }
__device__ int runs_of_rows(int rows, int run_tiles) { return (tiles_of_rows(rows) + run_tiles - 1) / run_tiles; }

/// The lanes of a warp whose pair, from `first` on, is of the expert.
__device__ unsigned pairs_of(const GroupCall& c, int expert, int first, int lane) {
  const int pair = first + lane;
  return __ballot_sync(kAllLanes, pair < c.pairs && c.chosen[pair] == expert);
}

/// A warp writes an expert's slots and runs; pairs in ascending order.
__device__ void fill_expert(const GroupCall& c, int expert, int rows, int first_tile, int first_run, int lane) {
  std::int32_t* slots = c.slots + first_tile * kTileRows;
  int before = 0;
  for (int first = 0; first < c.pairs; first += 32) {
    const unsigned hits = pairs_of(c, expert, first, lane);
    if ((hits >> lane) & 1) slots[before + __popc(hits & ((1u << lane) - 1))] = first + lane;
    before += __popc(hits);
  }
  for (int i = rows + lane; i < tiles_of_rows(rows) * kTileRows; i += 32) slots[i] = -1;
  for (int r = lane; r < runs_of_rows(rows, c.run_tiles); r += 32)
    c.run_table[first_run + r] = {expert, first_tile + r * c.run_tiles,
                                  min(rows - r * c.run_tiles * kTileRows, c.run_tiles * kTileRows)};
}

/// One block: the tables are small, and each part of them needs the counts of all experts.
__global__ void __launch_bounds__(kGroupThreads, 1) group_kernel(GroupCall c) {
  int *counts = shared<int>(), *tile_of = counts + c.experts, *run_of = tile_of + c.experts + 1;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  for (int e = warp; e < c.experts; e += kGroupThreads / 32) {
    int count = 0;
    for (int first = 0; first < c.pairs; first += 32) count += __popc(pairs_of(c, e, first, lane));
    if (lane == 0) counts[e] = count;
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e <= c.experts; e += kGroupThreads) {
    int tiles = 0, runs = 0;
    for (int i = 0; i < e; ++i) tiles += tiles_of_rows(counts[i]), runs += runs_of_rows(counts[i], c.run_tiles);
    tile_of[e] = tiles, run_of[e] = runs;
  }
  __syncthreads();
  for (int e = warp; e < c.experts; e += kGroupThreads / 32)
    if (counts[e] > 0) fill_expert(c, e, counts[e], tile_of[e], run_of[e], lane);
  for (int i = tile_of[c.experts] * kTileRows + static_cast<int>(threadIdx.x); i < c.tiles * kTileRows;
       i += kGroupThreads)
    c.slots[i] = -1;
  for (int i = run_of[c.experts] + static_cast<int>(threadIdx.x); i < c.runs; i += kGroupThreads)
    c.run_table[i] = {-1, 0, 0};
}

struct InsideCall {
  Activation activation;
  const std::int32_t* slots;
  int active;
  const float* gate;
  const float* up;
  float* out;  // (slots, width)
  std::int64_t width;
  FaultMark mark;
};
/// A block for each slot. What is not finite becomes a fault of the slot's row, and zeros.
__global__ void __launch_bounds__(kThreads) inside_kernel(InsideCall c) {
  const int pair = c.slots[blockIdx.x];
  if (pair < 0) return;
  const std::int64_t first = blockIdx.x * c.width;
  const bool gated = c.gate != nullptr;
  bool bad = false;
  for (std::int64_t i = threadIdx.x; i < c.width; i += kThreads) {
    const float up = c.up[first + i], value = activated(c.activation, gated ? c.gate[first + i] : up, up);
    c.out[first + i] = value;
    bad |= !isfinite(value);
  }
  if (c.mark.faults) spoil_row(c.mark, pair / c.active, bad, c.out + first, c.width);
}

/// out = the sum over a row's experts, best first. weights: null where they were applied to what experts see.
__global__ void __launch_bounds__(kThreads)
    combine_kernel(const float* results, const float* weights, int active, std::int64_t dim, float* out) {
  const std::int64_t row = blockIdx.x, i = static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (i >= dim) return;
  float sum = 0.0f;
  for (int k = 0; k < active; ++k)
    sum = fmaf(weights ? weights[row * active + k] : 1.0f, results[(row * active + k) * dim + i], sum);
  out[row * dim + i] = sum;
}

/// The worst case, and where things lie in the room.
struct Plan {
  std::int64_t rows, pairs, tiles, runs;
  int run_tiles;
  std::size_t run_table, records, inside_gate, inside_up, results, bytes;  // slots are at 0
};

Plan plan_of(const MixCall& c, std::int64_t rows) {
  Plan p{};
  const std::int64_t experts = c.route.experts;
  p.rows = rows, p.pairs = rows * c.route.routing.active;
  const std::int64_t used = std::min(experts, p.pairs);  // experts that have rows, at most
  p.tiles = (p.pairs + (kTileRows - 1) * used) / kTileRows;
  // Runs of more tiles where an expert has about that many rows.
  p.run_tiles = p.pairs >= 40 * experts ? 8 : p.pairs >= 12 * experts ? 4 : 1;
  p.runs = (p.tiles + (p.run_tiles - 1) * used) / p.run_tiles;
  const auto take = [&](std::size_t bytes) {
    const std::size_t at = p.bytes;
    p.bytes += (bytes + 255) / 256 * 256;
    return at;
  };
  const auto u = [](std::int64_t v) { return static_cast<std::size_t>(v); };
  const std::size_t inside = u(p.tiles * kTileRows * c.up.rows) * sizeof(float);
  take(u(p.tiles * kTileRows) * sizeof(std::int32_t));
  p.run_table = take(u(p.tiles) * sizeof(ProductRun));  // more than runs: so that fewer rows never need more room
  p.records = take(activation_bytes(p.tiles * kTileRows, std::max(c.up.columns, c.down.columns)));
  p.inside_gate = take(inside), p.inside_up = take(inside);
  p.results = take(u(p.pairs * c.down.rows) * sizeof(float));
  return p;
}

/// Some rows of a mixture, from `first` on.
class Mixing {
 public:
  Mixing(StreamHandle stream, const MixCall& call, std::int64_t first, std::int64_t rows)
      : stream_(stream), c_(call), plan_(plan_of(call, rows)), first_(first), active_(call.route.routing.active) {}

  void run() const {
    const bool gated = c_.activation.gated(), of_input = c_.route.routing.of_input;
    const float* weights = c_.route.weights + first_ * active_;
    group();
    const RowGather gather{slots(), static_cast<int>(active_), of_input ? weights : nullptr};
    const float* x = c_.x + first_ * c_.up.columns;
    convert_gathered(stream_, c_.up.type, x, c_.up.columns, plan_.tiles, c_.up.columns, gather, at(plan_.records));
    const Product up = product(c_.up, c_.up_bias, floats(plan_.inside_up)),
                  gate = product(c_.gate, c_.gate_bias, floats(plan_.inside_gate));
    if (gated && c_.gate.type == c_.up.type) {
      multiply({up, gate}, nullptr);
    } else {
      multiply({up}, nullptr);
      if (gated && !share_rows(c_.gate.type, c_.up.type))
        convert_gathered(stream_, c_.gate.type, x, c_.up.columns, plan_.tiles, c_.up.columns, gather,
                         at(plan_.records));
      if (gated) multiply({gate}, nullptr);
    }
    activate(gated);
    convert_gathered(stream_, c_.down.type, floats(plan_.inside_gate), c_.down.columns, plan_.tiles, c_.down.columns,
                     {slots(), 0, nullptr}, at(plan_.records));
    multiply({product(c_.down, c_.down_bias, floats(plan_.results))}, slots());
    launch(combine_kernel, dim3(static_cast<unsigned>(plan_.rows), blocks_for(c_.down.rows, kThreads)), kThreads, 0,
           stream_, floats(plan_.results), of_input ? nullptr : weights, static_cast<int>(active_), c_.down.rows,
           c_.out + first_ * c_.down.rows);
  }

 private:
  void group() const {
    const auto experts = static_cast<int>(c_.route.experts);
    const GroupCall g{c_.route.chosen + first_ * active_,
                      static_cast<int>(plan_.pairs),
                      experts,
                      static_cast<int>(plan_.tiles),
                      static_cast<int>(plan_.runs),
                      plan_.run_tiles,
                      slots(),
                      runs()};
    launch(group_kernel, 1, kGroupThreads, static_cast<std::size_t>(3 * experts + 2) * sizeof(int), stream_, g);
  }
  static Product product(const Matrix& matrix, const float* bias, float* out) {
    return {&matrix, 0, bias, out, matrix.rows};
  }
  /// Of all experts; the matrices have one type.
  void multiply(std::initializer_list<Product> products, const std::int32_t* out_rows) const {
    const Matrix& first = *products.begin()->matrix;
    ProductArgs a = product_args(first, at(plan_.records), plan_.tiles * kTileRows);
    for (const Product& each : products) add_matrix(a, each);
    a.runs = runs(), a.run_count = static_cast<int>(plan_.runs), a.run_tiles = plan_.run_tiles;
    a.out_rows = out_rows;
    launch_product(stream_, first.type, a);
  }
  void activate(bool gated) const {
    InsideCall a{c_.activation,
                 slots(),
                 static_cast<int>(active_),
                 gated ? floats(plan_.inside_gate) : nullptr,
                 floats(plan_.inside_up),
                 floats(plan_.inside_gate),
                 c_.up.rows,
                 c_.mark};
    a.mark.first += first_;
    launch(inside_kernel, static_cast<unsigned>(plan_.tiles * kTileRows), kThreads, 0, stream_, a);
  }
  std::byte* at(std::size_t offset) const { return static_cast<std::byte*>(c_.room) + offset; }
  float* floats(std::size_t offset) const { return reinterpret_cast<float*>(at(offset)); }
  std::int32_t* slots() const { return reinterpret_cast<std::int32_t*>(at(0)); }
  ProductRun* runs() const { return reinterpret_cast<ProductRun*>(at(plan_.run_table)); }

  StreamHandle stream_;
  const MixCall& c_;
  Plan plan_;
  std::int64_t first_, active_;
};

}  // namespace

std::size_t mixture_bytes(const MixCall& c) { return plan_of(c, std::min(c.route.rows, kRowsMax)).bytes; }

void mix(StreamHandle stream, const MixCall& c) {
  route(stream, c.route);
  for (std::int64_t first = 0; first < c.route.rows; first += kRowsMax)
    Mixing(stream, c, first, std::min(kRowsMax, c.route.rows - first)).run();
}

}  // namespace llorch::cuda
