#include "cuda/kernel/recurrence.h"

#include "cuda/kernel/block.h"

namespace llorch::cuda {
namespace {

constexpr int kBlock = SlotLayer::kBlock;
constexpr unsigned kThreads = 128, kParts = 4,
                   kColumns = kThreads / kParts;  // kParts threads for a column of the state
static_assert(kBlock >= limits::kDraftsMax, "drafts have places of their own");

__device__ float* state_at(const RecurCall& c, std::int64_t slot, std::int64_t head) {
  return c.slots + slot * c.slot_floats + head * c.key_dim * c.stride;
}
__device__ float* added_at(const RecurCall& c, std::int64_t slot, std::int64_t head, std::int64_t position) {
  return state_at(c, slot, c.value_heads) + (head * kBlock + position % kBlock) * c.stride;
}
__device__ float* decay_at(const RecurCall& c, std::int64_t slot, std::int64_t head, std::int64_t position) {
  return added_at(c, slot, c.value_heads, 0) + head * kBlock + position % kBlock;
}
__device__ float* keys_at(const RecurCall& c, std::int64_t slot, std::int64_t key_head, std::int64_t position) {
  return decay_at(c, slot, c.value_heads, 0) + (key_head * kBlock + position % kBlock) * c.key_dim;
}
/// Of a block's columns: the position before which the slot's state stands, as bits.
__device__ float* standing(const RecurCall& c, std::int64_t slot, std::int64_t head) {
  return keys_at(c, slot, c.key_heads, 0) + head * gridDim.x + blockIdx.x;
}

/// Queries and keys of length 1. A warp for each row and key head.
__global__ void __launch_bounds__(32) unit_kernel(RecurCall c) {
  const std::int64_t row = blockIdx.x, key_head = blockIdx.y;
  for (int which = 0; which < 2; ++which) {
    float* x = c.x + row * c.x_width + (which == 0 ? c.key : c.query) + key_head * c.key_dim;
    float squares = 0.0f;
    for (int i = static_cast<int>(threadIdx.x); i < c.key_dim; i += 32) squares = fmaf(x[i], x[i], squares);
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(kAllLanes, squares, step);
    const float factor = (which == 0 ? 1.0f : c.scale) / sqrtf(squares + c.eps);
    for (int i = static_cast<int>(threadIdx.x); i < c.key_dim; i += 32) x[i] *= factor;
  }
}

__device__ float value_of(const HeadValues& of, std::int64_t row, std::int64_t head) {
  return of.x[row * of.width + of.first + head / of.group * of.step + head % of.group];
}

/// A thread for each row and value head.
__global__ void __launch_bounds__(kThreads) rates_kernel(std::int64_t count, RecurCall c) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t row = i / c.value_heads, head = i % c.value_heads;
  const float step = value_of(c.step, row, head) + c.step_bias[head];
  const float plus = fmaxf(step, 0.0f) + log1pf(expf(-fabsf(step)));  // softplus
  c.decays[i] = expf(c.rate[head] * plus);
  c.strengths[i] = c.strength.x ? sigmoid(value_of(c.strength, row, head)) : plus;
}

/// The rows that are on the way to a block, and those that it computes.
template<int kKeys>
struct RowStage {
  static constexpr int kRows = 8;
  alignas(16) float keys[kRows][kKeys], queries[kRows][kKeys];  // zeros from key_dim on
  float values[kRows][kColumns];
  float decays[kRows], strengths[kRows];
};

/// Some columns of a head's state, a column in the registers of kParts threads: of its values a thread has four of
/// every 4 * kParts.
template<int kValues>
struct Columns {
  static constexpr int kKeys = kValues * static_cast<int>(kParts);
  const RecurCall& c;
  std::int64_t head, key_head;
  int column, part;
  bool there;
  float values[kValues];

  __device__ Columns(const RecurCall& call, std::int64_t of_head)
      : c(call), head(of_head), key_head(c.tiled ? head % c.key_heads : head / (c.value_heads / c.key_heads)) {
    column = static_cast<int>(blockIdx.x * kColumns + threadIdx.x / kParts);
    part = static_cast<int>(threadIdx.x % kParts);
    there = column < c.value_dim;
  }
  [[nodiscard]] __device__ int index(int i) const { return i / 4 * 4 * static_cast<int>(kParts) + 4 * part + i % 4; }
  __device__ __forceinline__ void fill(float value) {
#pragma unroll
    for (int i = 0; i < kValues; ++i) values[i] = value;
  }
  __device__ __forceinline__ void load(const float* state) {
#pragma unroll
    for (int i = 0; i < kValues; ++i)
      values[i] = there && index(i) < c.key_dim ? state[index(i) * c.stride + column] : 0.0f;
  }
  __device__ __forceinline__ void store(float* state) const {
    if (!there) return;
#pragma unroll
    for (int i = 0; i < kValues; ++i)
      if (index(i) < c.key_dim) state[index(i) * c.stride + column] = values[i];
  }
  /// Checkpoints of this position.
  __device__ void save(const Step& step, const StepSequence& s, int position) const {
    for (int i = s.saves; i < s.saves_end; ++i)
      if (step.saves[i].position == position)
        store(c.checkpoints + step.saves[i].checkpoint * c.checkpoint_floats + head * c.key_dim * c.stride);
  }
  /// The slot's state is that before `position`.
  __device__ void stand(const StepSequence& s, int position) const {
    store(state_at(c, s.slot, head));
    if (threadIdx.x == 0) *standing(c, s.slot, head) = __int_as_float(position);
  }
  /// What a position that was a draft added.
  __device__ void repeat(const StepSequence& s, int position) {
    const float* key = keys_at(c, s.slot, key_head, position);
    const float decay = *decay_at(c, s.slot, head, position),
                added = there ? added_at(c, s.slot, head, position)[column] : 0.0f;
#pragma unroll
    for (int i = 0; i < kValues; ++i)
      if (index(i) < c.key_dim) values[i] = fmaf(key[index(i)], added, values[i] * decay);
  }
  /// The state before the sequence's first row.
  __device__ void begin(const Step& step, const StepSequence& s, int first) {
    if (s.restore >= 0) return load(c.checkpoints + s.restore * c.checkpoint_floats + head * c.key_dim * c.stride);
    if (first == 0) return fill(0.0f);
    const int stands = __float_as_int(*standing(c, s.slot, head));
    load(state_at(c, s.slot, head));
    for (int p = stands; p < first; ++p) repeat(s, p);
    if (stands < first) save(step, s, first);
    if (stands > first) fill(NAN);  // of a step that was not finished: the sequence must not go on
  }

  /// The sum of all values of a column, from a thread's four.
  static __device__ __forceinline__ float together(const float (&sums)[4]) {
    float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    return sum + __shfl_xor_sync(kAllLanes, sum, 2);
  }
  /// The state takes row r of a stage. Returns the row's output and what was added.
  __device__ __forceinline__ float2 compute(const RowStage<kKeys>& stage, int r) {
    const float decay = stage.decays[r], value = stage.values[r][threadIdx.x / kParts];
    float found[4] = {}, sums[4] = {};
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      values[i] *= decay;
      if (c.corrects) found[i % 4] = fmaf(values[i], stage.keys[r][index(i)], found[i % 4]);
    }
    const float added = stage.strengths[r] * (c.corrects ? value - together(found) : value);
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      values[i] = fmaf(stage.keys[r][index(i)], added, values[i]);
      sums[i % 4] = fmaf(values[i], stage.queries[r][index(i)], sums[i % 4]);
    }
    const float sum = together(sums);
    return {c.skip ? fmaf(c.skip[head], value, sum) : sum, added};
  }

  /// Begins the copy of rows from `row` on, `end` excluded.
  __device__ __forceinline__ void fetch(RowStage<kKeys>& to, int row, int end) const {
    const int rows = min(RowStage<kKeys>::kRows, end - row), first = static_cast<int>(blockIdx.x * kColumns);
    const float* x = c.x + row * c.x_width;
    const auto copy = [&](float* target, const float* from, bool is_there) {
      copy_async<4>(target, is_there ? from : c.x, is_there ? 4 : 0);
    };
    for (int i = static_cast<int>(threadIdx.x); i < rows * kKeys; i += kThreads) {
      const int r = i / kKeys, k = i % kKeys;
      const float* of_row = x + r * c.x_width + key_head * c.key_dim + k;
      copy(&to.keys[r][k], of_row + c.key, k < c.key_dim);
      copy(&to.queries[r][k], of_row + c.query, k < c.key_dim);
    }
    for (int i = static_cast<int>(threadIdx.x); i < rows * static_cast<int>(kColumns); i += kThreads) {
      const int r = i / static_cast<int>(kColumns), v = i % static_cast<int>(kColumns);
      copy(&to.values[r][v], x + r * c.x_width + c.value + head * c.value_dim + first + v, first + v < c.value_dim);
    }
    if (const int r = static_cast<int>(threadIdx.x); r < rows) {
      const std::int64_t rate = std::int64_t{row + r} * c.value_heads + head;
      copy(&to.decays[r], c.decays + rate, true);
      copy(&to.strengths[r], c.strengths + rate, true);
    }
    copy_commit();
  }
};

/// A block for some columns of a value head of a sequence; kValues: of a column in a thread.
template<int kValues>
__global__ void __launch_bounds__(kThreads, kValues <= 16   ? 4
                                            : kValues <= 32 ? 3
                                                            : 2) recur_kernel(Step step, RecurCall c) {
  using Stage = RowStage<Columns<kValues>::kKeys>;
  const StepSequence& s = step.sequences[blockIdx.z];
  if (s.first == s.end) return;
  auto* stages = shared<Stage>();
  Columns<kValues> columns(c, blockIdx.y);
  columns.fetch(stages[0], s.first, s.end);
  const int kept = s.end - s.drafts;  // rows from here on may be taken back
  int position = step.rows[s.first].position;
  columns.begin(step, s, position);
  for (int row = s.first; row < s.end; ++row, ++position) {
    const int r = (row - s.first) % Stage::kRows;
    const Stage& stage = stages[(row - s.first) / Stage::kRows % 2];
    if (r == 0) {
      copy_wait<0>();
      __syncthreads();  // the rows are there for all, and nobody reads the other stage any more
      if (row + Stage::kRows < s.end)
        columns.fetch(stages[((row - s.first) / Stage::kRows + 1) % 2], row + Stage::kRows, s.end);
    }
    if (row == kept) columns.stand(s, position);
    const float2 out = columns.compute(stage, r);
    if (columns.there && columns.part == 0) {
      c.out[(row * c.value_heads + columns.head) * c.value_dim + columns.column] = out.x;
      if (row >= kept) added_at(c, s.slot, columns.head, position)[columns.column] = out.y;
    }
    if ((position + 1) % kBlock == 0 && row < kept) columns.save(step, s, position + 1);
  }
  if (kept == s.end) columns.stand(s, position);
}

/// Keys and decays of drafts, once nothing reads what they replace.
__global__ void __launch_bounds__(kThreads) keep_drafts_kernel(Step step, RecurCall c) {
  const StepSequence& s = step.sequences[blockIdx.y];
  const int row = s.end - s.drafts + static_cast<int>(blockIdx.x);
  if (row >= s.end) return;
  const int position = step.rows[row].position, keys = c.key_heads * c.key_dim;
  for (int i = static_cast<int>(threadIdx.x); i < keys; i += kThreads)
    keys_at(c, s.slot, i / c.key_dim, position)[i % c.key_dim] = c.x[row * c.x_width + c.key + i];
  for (int head = static_cast<int>(threadIdx.x); head < c.value_heads; head += kThreads)
    *decay_at(c, s.slot, head, position) = c.decays[std::int64_t{row} * c.value_heads + head];
}

template<int kValues>
void launch_recur(StreamHandle stream, const Step& step, const RecurCall& c) {
  const dim3 grid(blocks_for(c.value_dim, kColumns), static_cast<unsigned>(c.value_heads),
                  static_cast<unsigned>(step.sequence_count));
  launch(recur_kernel<kValues>, grid, kThreads, 2 * sizeof(RowStage<Columns<kValues>::kKeys>), stream, step, c);
}

}  // namespace

std::int64_t recur_floats(const SlotLayer& layer) {
  const std::int64_t inputs = std::int64_t{layer.kept()} * layer.channels;
  return layer.floats() - inputs + std::int64_t{layer.value_heads} * blocks_for(layer.value_dim, kColumns);
}

void recur(StreamHandle stream, const Step& step, const RecurCall& c) {
  if (step.row_count == 0) return;
  const auto rows = static_cast<unsigned>(step.row_count), sequences = static_cast<unsigned>(step.sequence_count);
  const std::int64_t rates = std::int64_t{step.row_count} * c.value_heads;
  if (c.unit) launch(unit_kernel, dim3(rows, static_cast<unsigned>(c.key_heads)), 32, 0, stream, c);
  launch(rates_kernel, blocks_for(rates, kThreads), kThreads, 0, stream, rates, c);
  if (c.key_dim <= 64)
    launch_recur<16>(stream, step, c);
  else if (c.key_dim <= 128)
    launch_recur<32>(stream, step, c);
  else
    launch_recur<limits::kRecurrentDimMax / kParts>(stream, step, c);
  launch(keep_drafts_kernel, dim3(limits::kDraftsMax, sequences), kThreads, 0, stream, step, c);
}

}  // namespace llorch::cuda
