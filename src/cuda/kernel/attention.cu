#include "cuda/kernel/attention.h"

#include <algorithm>

#include "cuda/kernel/attention_rows.h"
#include "cuda/launch.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr std::int32_t kSplitRowsMax = 64;       // more rows fill the multiprocessors without a split
constexpr std::size_t kPartialsMax = 16u << 20;  // floats

/// A row's spans in order; a block for each row and head, a thread for some dimensions.
__global__ void __launch_bounds__(kThreads) merge_kernel(Step step, KvLayer l, AttendCall c, unsigned spans) {
  const std::int64_t row = blockIdx.x, head = blockIdx.y;
  const Sight sight = sight_of(step, step.rows[row], c);
  const int first = sight.oldest / kSpan, last = sight.last / kSpan;
  for (int d = static_cast<int>(threadIdx.x); d < l.head_dim; d += kThreads) {
    float most = first_most(c, head), mass = first_mass(c), sum = 0.0f;
    const float* partial = partial_of(l, c, row, head, first, spans);
#pragma unroll 4
    for (int span = first; span <= last; ++span, partial += l.head_dim + 2) {
      const Merge merge = merge_of(most, partial[l.head_dim]);
      most = merge.most;
      mass = fmaf(mass, merge.before, partial[l.head_dim + 1] * merge.now);
      sum = fmaf(sum, merge.before, partial[d] * merge.now);
    }
    c.out[(row * c.heads + head) * l.head_dim + d] = sum / mass;
  }
}

/// What the spans of one row give, in floats.
std::size_t row_partials(const Step& step, const KvLayer& layer, std::int32_t heads) {
  return static_cast<std::size_t>(heads) * attend_spans(step) * static_cast<std::size_t>(layer.head_dim + 2);
}

}  // namespace

std::size_t attend_partials(const Step& step, const KvLayer& layer, std::int32_t heads) {
  const std::size_t spans = attend_spans(step);
  const std::size_t floats = static_cast<std::size_t>(step.row_count) * row_partials(step, layer, heads);
  return spans > 1 && step.row_count <= kSplitRowsMax && floats <= kPartialsMax ? floats : 0;
}

std::size_t attend_partials_most(const Step& step, const KvLayer& layer, std::int32_t heads) {
  if (attend_spans(step) < 2) return 0;
  const auto rows = static_cast<std::size_t>(std::min(step.row_count, kSplitRowsMax));
  return std::min(rows * row_partials(step, layer, heads), kPartialsMax);
}

void attend(StreamHandle stream, const Step& step, const KvLayer& layer, const AttendCall& call) {
  if (step.row_count == 0) return;
  switch (layer.precision) {
    case KvPrecision::kF32: attend_form<KvPrecision::kF32>(stream, step, layer, call); break;
    case KvPrecision::kF16: attend_form<KvPrecision::kF16>(stream, step, layer, call); break;
    case KvPrecision::kQ8_0: attend_form<KvPrecision::kQ8_0>(stream, step, layer, call); break;
  }
  const dim3 grid(static_cast<unsigned>(step.row_count), static_cast<unsigned>(call.heads));
  if (call.partials) launch(merge_kernel, grid, kThreads, 0, stream, step, layer, call, attend_spans(step));
}

}  // namespace llorch::cuda
