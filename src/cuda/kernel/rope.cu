#include "cuda/kernel/rope.h"

#include "cuda/kernel/block.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 128;

__global__ void __launch_bounds__(kThreads) fill_rope_kernel(Step step, RopeAngles a, float* cosines, float* sines) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= step.row_count * a.half) return;
  const double position = step.rows[i / a.half].position, angle = position * a.frequencies[i % a.half];
  const double factor = a.magnitude * (1 + a.growth * log1p(floor((position + a.growth_offset) / a.growth_every)));
  cosines[i] = static_cast<float>(cos(angle) * factor);
  sines[i] = static_cast<float>(sin(angle) * factor);
}

__global__ void __launch_bounds__(kThreads) turn_kernel(RopeTurn t) {
  const std::int64_t row = blockIdx.x;
  for (std::int64_t pair = threadIdx.x; pair < t.heads * t.half; pair += kThreads) {
    const std::int64_t i = pair % t.half;
    float* head = t.x + (row * t.heads + pair / t.half) * t.head_dim;
    float &first = head[t.adjacent ? 2 * i : i], &second = head[t.adjacent ? 2 * i + 1 : i + t.half];
    const float c = t.cos[row * t.half + i], s = t.sin[row * t.half + i], a = first, b = second;
    first = fmaf(a, c, -(b * s));
    second = fmaf(a, s, b * c);
  }
}

}  // namespace

void fill_rope(StreamHandle stream, const Step& step, const RopeAngles& angles, float* cos, float* sin) {
  const std::int64_t count = step.row_count * angles.half;
  if (count > 0) launch(fill_rope_kernel, blocks_for(count, kThreads), kThreads, 0, stream, step, angles, cos, sin);
}
void turn_heads(StreamHandle stream, const RopeTurn& turn) {
  if (turn.rows > 0 && turn.half > 0) launch(turn_kernel, static_cast<unsigned>(turn.rows), kThreads, 0, stream, turn);
}

}  // namespace llorch::cuda
