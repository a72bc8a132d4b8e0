#include "cuda/kernel/convolution.h"

#include "cuda/kernel/block.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 128;

__device__ float* kept_input(const ConvolveCall& c, const StepSequence& s, int position) {
  return c.slots + (s.slot * std::int64_t{c.kept} + position % c.kept) * c.channels;
}

/// One channel's input at a position: of this step, of the checkpoint that the sequence goes on from, or of the slot.
__device__ float input(const Step& step, const ConvolveCall& c, const StepSequence& s, int position,
                       std::int64_t channel) {
  if (position < 0) return 0.0f;
  const int row = position - step.rows[s.first].position, tail = c.taps - 1;
  if (row >= 0) return c.x[std::int64_t{s.first + row} * c.channels + channel];
  if (s.restore >= 0) return c.checkpoints[(s.restore * std::int64_t{tail} + tail + row) * c.channels + channel];
  return kept_input(c, s, position)[channel];
}

__device__ void convolve_row(const Step& step, const ConvolveCall& c, std::int64_t row, std::int64_t channel) {
  const StepRow& of = step.rows[row];
  const StepSequence& s = step.sequences[of.sequence];
  float sum = c.bias ? c.bias[channel] : 0.0f;
  for (int t = 0; t < c.taps; ++t)
    sum = fmaf(c.weight[t * c.channels + channel], input(step, c, s, of.position - c.taps + 1 + t, channel), sum);
  c.out[row * c.channels + channel] = c.silu ? sum * sigmoid(sum) : sum;
}

/// What checkpoints and the next step need. Saves read before anything is replaced.
__device__ void keep_inputs(const Step& step, const ConvolveCall& c, const StepSequence& s, std::int64_t channel) {
  const int tail = c.taps - 1;
  if (s.first == s.end) return;
  for (int i = s.saves; i < s.saves_end; ++i)
    for (int t = 0; t < tail; ++t)
      c.checkpoints[(step.saves[i].checkpoint * std::int64_t{tail} + t) * c.channels + channel] =
          input(step, c, s, step.saves[i].position - tail + t, channel);
  const int first = step.rows[s.first].position, last = step.rows[s.end - 1].position;
  for (int p = max(s.restore >= 0 ? max(first - tail, 0) : first, last - c.kept + 1); p <= last; ++p)
    kept_input(c, s, p)[channel] = input(step, c, s, p, channel);
}

/// A thread for a channel of a row, behind the rows of a sequence; the first block has number `first`.
__global__ void __launch_bounds__(kThreads) convolve_kernel(Step step, ConvolveCall c, unsigned first) {
  const std::int64_t number = std::int64_t{first} + blockIdx.x,
                     channel = std::int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (channel >= c.channels) return;
  if (number < step.row_count)
    convolve_row(step, c, number, channel);
  else
    keep_inputs(step, c, step.sequences[number - step.row_count], channel);
}

}  // namespace

void convolve(StreamHandle stream, const Step& step, const ConvolveCall& c) {
  if (step.row_count == 0) return;
  const unsigned rows = static_cast<unsigned>(step.row_count), sequences = static_cast<unsigned>(step.sequence_count),
                 parts = blocks_for(c.channels, kThreads);
  // A sequence's few rows replace no input that one of them reads.
  const bool together = step.sequence_rows <= c.kept - c.taps + 1;
  launch(convolve_kernel, dim3(together ? rows + sequences : rows, parts), kThreads, 0, stream, step, c, 0);
  if (!together) launch(convolve_kernel, dim3(sequences, parts), kThreads, 0, stream, step, c, rows);
}

}  // namespace llorch::cuda
