// Which experts a row takes. Bound: latency; a warp for each row, some 10 passes over the experts.
#include "cuda/kernel/block.h"
#include "cuda/kernel/mixture.h"

namespace llorch::cuda {
namespace {

constexpr double kNone = -HUGE_VAL;

struct Best {
  double value;
  int index;
};
__device__ Best better(Best a, Best b) {
  return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}
/// The largest of values[0..count), the lowest index of equals; all lanes get it.
__device__ Best best_of(const double* values, int count) {
  Best best{kNone, count};
  for (int i = static_cast<int>(threadIdx.x); i < count; i += 32) best = better(best, {values[i], i});
  for (int step = 16; step > 0; step /= 2) {
    const double value = __shfl_xor_sync(kAllLanes, best.value, step);
    const int index = __shfl_xor_sync(kAllLanes, best.index, step);
    best = better(best, {value, index});
  }
  return best;
}

/// All but the best groups are out. worth: room for a value of each group.
__device__ void keep_groups(const Routing& r, int experts, double* by, double* worth) {
  const int size = experts / r.groups;
  for (int g = static_cast<int>(threadIdx.x); g < r.groups; g += 32) {
    double first = kNone, second = kNone;
    for (int i = 0; i < size; ++i) {
      const double value = by[g * size + i];
      if (value > first)
        second = first, first = value;
      else if (value > second)
        second = value;
    }
    worth[g] = size > 1 ? first + second : first;
  }
  __syncwarp();
  // As many times as groups are kept: the best becomes NaN, which marks it and is never the best again.
  for (int kept = 0; kept < r.groups_active; ++kept) {
    const Best best = best_of(worth, r.groups);
    __syncwarp();
    if (threadIdx.x == 0 && best.index < r.groups) worth[best.index] = NAN;
    __syncwarp();
  }
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += 32)
    if (worth[e / size] == worth[e / size]) by[e] = kNone;
  __syncwarp();
}

__device__ double sum_of_lanes(double value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

/// A warp for each row.
__global__ void __launch_bounds__(32) route_kernel(RouteCall c) {
  const Routing& r = c.routing;
  const int experts = static_cast<int>(c.experts), lane = static_cast<int>(threadIdx.x);
  double *score = shared<double>(), *by = score + experts, *worth = by + experts;
  const std::int64_t row = blockIdx.x;
  const bool sigmoids = r.score == Routing::Score::kSigmoid, of_all = r.score == Routing::Score::kSoftmaxOfAll;
  for (int e = lane; e < experts; e += 32) {
    const double logit = c.logits[row * experts + e];
    score[e] = sigmoids ? 1 / (1 + exp(-logit)) : logit;
  }
  __syncwarp();
  const double top = best_of(score, experts).value;
  double all = 0;
  for (int e = lane; e < experts; e += 32) all += exp(score[e] - top);
  all = sum_of_lanes(all);
  for (int e = lane; e < experts; e += 32)
    by[e] = !c.choice_bias ? score[e] : (of_all ? exp(score[e] - top) / all : score[e]) + c.choice_bias[e];
  __syncwarp();
  if (r.groups > 1) keep_groups(r, experts, by, worth);
  double sum = 0;
  for (int i = 0; i < r.active; ++i) {
    const Best best = best_of(by, experts);
    const int e = best.index < experts ? best.index : 0;
    const double weight = sigmoids ? score[e] : exp(score[e] - top);
    sum += weight;
    __syncwarp();
    if (lane == 0) {
      by[e] = NAN;  // never the best again
      c.chosen[row * r.active + i] = e;
      c.weights[row * r.active + i] = static_cast<float>(weight);
    }
    __syncwarp();
  }
  const bool of_chosen = r.normalize || r.score == Routing::Score::kSoftmaxOfChosen;
  const double divisor = of_chosen ? sum + (sigmoids ? static_cast<double>(r.normalize_eps) : 0) : sigmoids ? 1 : all;
  for (int i = lane; i < r.active; i += 32) {
    const int e = c.chosen[row * r.active + i];
    const double weight = (sigmoids ? score[e] : exp(score[e] - top)) / divisor * static_cast<double>(r.scale);
    c.weights[row * r.active + i] = static_cast<float>(c.expert_scale ? weight * c.expert_scale[e] : weight);
  }
}

}  // namespace

void route(StreamHandle stream, const RouteCall& c) {
  if (c.rows == 0) return;
  const std::size_t values = static_cast<std::size_t>(2 * c.experts + c.routing.groups);
  launch(route_kernel, static_cast<unsigned>(c.rows), 32, values * sizeof(double), stream, c);
}

}  // namespace llorch::cuda
