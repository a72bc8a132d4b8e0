#include "cuda/kernel/attention.h"

#include <algorithm>

#include "base/assert.h"
#include "cuda/kernel/attention_rows.h"
#include "cuda/launch.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr std::int32_t kSplitRowsMax = 64;       // more rows fill the multiprocessors without a split
constexpr std::size_t kPartialsMax = 16u << 20;  // floats

/// A row's spans in order; a block for each row and head, a thread for some dimensions.
__global__ void __launch_bounds__(kThreads) merge_kernel(Step step, KvLayer l, AttendCall c, unsigned spans) {
  const std::int64_t row = c.first + static_cast<int>(blockIdx.x), head = blockIdx.y;
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

/// How many rows one launch splits over blocks; 0: none. Groups are as equal as they can be.
std::int32_t split_rows(const Step& step, const KvLayer& layer, std::int32_t heads) {
  if (attend_spans(step) < 2 || step.row_count == 0 || step.row_count > kSplitRowsMax) return 0;
  const auto fit = static_cast<std::int32_t>(
      std::min(kPartialsMax / row_partials(step, layer, heads), static_cast<std::size_t>(kSplitRowsMax)));
  if (fit == 0) return 0;
  const std::int32_t groups = (step.row_count + fit - 1) / fit;
  return (step.row_count + groups - 1) / groups;
}

/// Calls `with` as a template of the layer's precision.
template<class With>
auto of_form(const KvLayer& layer, const With& with) {
  switch (layer.precision) {
    case KvPrecision::kF32: return with.template operator()<KvPrecision::kF32>();
    case KvPrecision::kF16: return with.template operator()<KvPrecision::kF16>();
    case KvPrecision::kQ8_0: break;
  }
  return with.template operator()<KvPrecision::kQ8_0>();
}

void launch_rows(StreamHandle stream, const Step& step, const KvLayer& layer, const AttendCall& call) {
  of_form(layer, [&]<KvPrecision Precision>() { attend_form<Precision>(stream, step, layer, call); });
  const dim3 grid(static_cast<unsigned>(call.end - call.first), static_cast<unsigned>(call.heads));
  if (call.partials) launch(merge_kernel, grid, kThreads, 0, stream, step, layer, call, attend_spans(step));
}

}  // namespace

std::size_t attend_shared_bytes(const KvLayer& layer) {
  return of_form(layer, [&]<KvPrecision Precision>() { return attend_form_shared_bytes<Precision>(layer); });
}

std::size_t attend_partials(const Step& step, const KvLayer& layer, std::int32_t heads) {
  return static_cast<std::size_t>(split_rows(step, layer, heads)) * row_partials(step, layer, heads);
}

std::size_t attend_partials_most(const Step& step, const KvLayer& layer, std::int32_t heads) {
  if (attend_spans(step) < 2) return 0;
  const auto rows = static_cast<std::size_t>(std::min(step.row_count, kSplitRowsMax));
  return std::min(rows * row_partials(step, layer, heads), kPartialsMax);
}

void attend(StreamHandle stream, const Step& step, const KvLayer& layer, const AttendCall& call) {
  if (!stream) return;  // a rehearsal: its room is for steps of fewer rows, too
  const std::int32_t group = call.partials ? split_rows(step, layer, call.heads) : step.row_count;
  LLORCH_ASSERT(group > 0 || step.row_count == 0, "partial results of a step that is not split");
  AttendCall part = call;
  for (part.first = 0; part.first < step.row_count; part.first = part.end) {
    part.end = std::min(part.first + group, step.row_count);
    part.spans_before = std::int64_t{part.first} * call.heads * attend_spans(step);
    launch_rows(stream, step, layer, part);
  }
}

}  // namespace llorch::cuda
