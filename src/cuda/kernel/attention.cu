#include "cuda/kernel/attention.h"

#include "cuda/kernel/block.h"
#include "cuda/kernel/cache_device.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 128;  // two for each position of a page

/// In shared memory; behind it the query and the weighted sum, head_dim each.
struct AttendTile {
  float scores[kPagePositions];  // then their weights
  float most, mass;              // of the page
};

/// The positions that a row sees.
struct Sight {
  std::int32_t oldest, last;
};
__device__ Sight sight_of(const Step& step, const StepRow& row, const AttendCall& c) {
  const int half = c.both_ways ? c.window / 2 : 0;
  int last = row.position;
  if (c.both_ways) last = step.rows[step.sequences[row.sequence].end - 1].position;
  if (half > 0) last = min(last, row.position + half);
  const int behind = c.both_ways ? half : c.window - 1;
  return {c.window > 0 ? max(0, row.position - behind) : 0, last};
}

/// Scores of the page's positions first..last (of the page); both threads of a position get the sum of their halves.
template<KvPrecision Precision>
__device__ void score_page(const KvLayer& l, const AttendCall& c, const unsigned char* keys, int first, int last,
                           const float* query, AttendTile& tile) {
  const int slot = static_cast<int>(threadIdx.x) / 2, part = static_cast<int>(threadIdx.x) % 2;
  float dot = 0.0f;
  if (slot >= first && slot <= last)
    for (int d = part; d < l.head_dim; d += 2) dot = fmaf(query[d], kv_read<Precision>(l, keys, slot, d), dot);
  dot += __shfl_xor_sync(kAllLanes, dot, 1);
  dot *= c.scale;
  if (c.softcap > 0.0f) dot = c.softcap * tanhf(dot / c.softcap);
  if (part == 0) tile.scores[slot] = slot >= first && slot <= last ? dot : -INFINITY;
}

/// Scores become weights relative to the largest; by the first warp.
__device__ void weigh_page(AttendTile& tile) {
  const unsigned lane = threadIdx.x;
  const float low = tile.scores[lane], high = tile.scores[lane + 32];
  float most = fmaxf(low, high);
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, step));
  const float low_weight = expf(low - most), high_weight = expf(high - most);
  float mass = low_weight + high_weight;
  for (int step = 16; step > 0; step /= 2) mass += __shfl_xor_sync(kAllLanes, mass, step);
  tile.scores[lane] = low_weight, tile.scores[lane + 32] = high_weight;
  if (lane == 0) tile.most = most, tile.mass = mass;
}

template<KvPrecision Precision>
__global__ void __launch_bounds__(kThreads) attend_kernel(Step step, KvLayer l, AttendCall c) {
  auto& tile = *shared<AttendTile>();
  float* query = shared<float>(sizeof(AttendTile));
  float* sum = query + l.head_dim;
  const std::int64_t row = blockIdx.x, head = blockIdx.y, from = (row * c.heads + head) * l.head_dim;
  const StepRow& of = step.rows[row];
  const Sight sight = sight_of(step, of, c);
  const std::int64_t kv_head = head / (c.heads / l.kv_heads);
  const std::int32_t* pages = step.pages + step.sequences[of.sequence].pages[l.group];
  for (int d = static_cast<int>(threadIdx.x); d < l.head_dim; d += kThreads)
    query[d] = c.query[from + d], sum[d] = 0.0f;
  float most = c.sinks ? c.sinks[head] : -INFINITY, mass = c.sinks ? 1.0f : 0.0f;
  for (int page = sight.oldest / kPagePositions; page <= sight.last / kPagePositions; ++page) {
    const int first = max(sight.oldest - page * kPagePositions, 0),
              last = min(sight.last - page * kPagePositions, kPagePositions - 1);
    __syncthreads();  // the query is there, and the last page's weights are read
    score_page<Precision>(l, c, kv_half(l, pages[page], kv_head, 0), first, last, query, tile);
    __syncthreads();
    if (threadIdx.x < 32) weigh_page(tile);
    __syncthreads();
    const float merged = fmaxf(most, tile.most), before = expf(most - merged), now = expf(tile.most - merged);
    const unsigned char* values = kv_half(l, pages[page], kv_head, 1);
    for (int d = static_cast<int>(threadIdx.x); d < l.head_dim; d += kThreads) {
      float of_page = 0.0f;
      for (int slot = first; slot <= last; ++slot)
        of_page = fmaf(tile.scores[slot], kv_read<Precision>(l, values, slot, d), of_page);
      sum[d] = fmaf(sum[d], before, of_page * now);
    }
    mass = fmaf(mass, before, tile.mass * now);
    most = merged;
  }
  for (int d = static_cast<int>(threadIdx.x); d < l.head_dim; d += kThreads) c.out[from + d] = sum[d] / mass;
}

}  // namespace

void attend(StreamHandle stream, const Step& step, const KvLayer& layer, const AttendCall& call) {
  if (step.row_count == 0) return;
  const dim3 grid(static_cast<unsigned>(step.row_count), static_cast<unsigned>(call.heads));
  const std::size_t bytes = sizeof(AttendTile) + 2 * sizeof(float) * static_cast<std::size_t>(layer.head_dim);
  const auto kernel = layer.precision == KvPrecision::kF32   ? attend_kernel<KvPrecision::kF32>
                      : layer.precision == KvPrecision::kF16 ? attend_kernel<KvPrecision::kF16>
                                                             : attend_kernel<KvPrecision::kQ8_0>;
  launch(kernel, grid, kThreads, bytes, stream, step, layer, call);
}

}  // namespace llorch::cuda
