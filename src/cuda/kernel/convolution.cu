#include "cuda/kernel/convolution.h"

#include "cuda/kernel/block.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 128;

__device__ float* kept_input(const ConvolveCall& c, const StepSequence& s, std::int64_t position) {
  return c.slots + (s.slot * std::int64_t{c.kept} + position % c.kept) * c.channels;
}

/// One channel's input at a position: of this step, or of the slot.
__device__ float input(const Step& step, const ConvolveCall& c, const StepSequence& s, std::int64_t position,
                       std::int64_t channel) {
  if (position < 0) return 0.0f;
  const std::int64_t row = position - step.rows[s.first].position;
  return row < 0 ? kept_input(c, s, position)[channel] : c.x[(s.first + row) * c.channels + channel];
}

/// Sequences that go on from a checkpoint take its inputs. A thread for each channel.
__global__ void __launch_bounds__(kThreads) restore_kernel(Step step, ConvolveCall c) {
  const StepSequence& s = step.sequences[blockIdx.y];
  const std::int64_t channel = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int tail = c.taps - 1;
  if (s.restore < 0 || s.first == s.end || channel >= c.channels) return;
  for (int i = 0; i < tail; ++i) {
    const std::int64_t position = step.rows[s.first].position - tail + i;
    if (position >= 0)
      kept_input(c, s, position)[channel] = c.checkpoints[(s.restore * std::int64_t{tail} + i) * c.channels + channel];
  }
}

__global__ void __launch_bounds__(kThreads) convolve_kernel(Step step, ConvolveCall c) {
  const std::int64_t row = blockIdx.x;
  const StepRow& of = step.rows[row];
  const StepSequence& s = step.sequences[of.sequence];
  const std::int64_t channel = static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (channel >= c.channels) return;
  float sum = c.bias ? c.bias[channel] : 0.0f;
  for (int t = 0; t < c.taps; ++t)
    sum = fmaf(c.weight[t * c.channels + channel], input(step, c, s, of.position - c.taps + 1 + t, channel), sum);
  c.out[row * c.channels + channel] = c.silu ? sum * sigmoid(sum) : sum;
}

/// What checkpoints and the next step need. A thread for each channel: what a save reads may be replaced below.
__global__ void __launch_bounds__(kThreads) keep_kernel(Step step, ConvolveCall c) {
  const StepSequence& s = step.sequences[blockIdx.y];
  const std::int64_t channel = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int tail = c.taps - 1;
  if (s.first == s.end || channel >= c.channels) return;
  for (int i = s.saves; i < s.saves_end; ++i)
    for (int t = 0; t < tail; ++t)
      c.checkpoints[(step.saves[i].checkpoint * std::int64_t{tail} + t) * c.channels + channel] =
          input(step, c, s, step.saves[i].position - tail + t, channel);
  const std::int64_t first = step.rows[s.first].position, last = step.rows[s.end - 1].position;
  for (std::int64_t p = first > last - c.kept + 1 ? first : last - c.kept + 1; p <= last; ++p)
    kept_input(c, s, p)[channel] = c.x[(s.first + p - first) * c.channels + channel];
}

}  // namespace

void convolve(StreamHandle stream, const Step& step, const ConvolveCall& c) {
  if (step.row_count == 0) return;
  const unsigned parts = blocks_for(c.channels, kThreads), sequences = static_cast<unsigned>(step.sequence_count);
  launch(restore_kernel, dim3(parts, sequences), kThreads, 0, stream, step, c);
  launch(convolve_kernel, dim3(static_cast<unsigned>(step.row_count), parts), kThreads, 0, stream, step, c);
  launch(keep_kernel, dim3(parts, sequences), kThreads, 0, stream, step, c);
}

}  // namespace llorch::cuda
