#include "cuda/kernel/recurrence.h"

#include "cuda/kernel/block.h"
#include "model/state.h"

namespace llorch::cuda {
namespace {

constexpr int kBlock = SlotLayer::kBlock;
constexpr unsigned kThreads = 128, kParts = 4, kColumns = kThreads / kParts;  // four threads for a column of the state

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

/// Some columns of one head's state: of its column a thread has every fourth value, in shared memory of its own.
struct Columns {
  float* mine;  // value i at mine[i / kParts * kThreads]
  int column, part;
  bool there;

  __device__ float& at(int i) const { return mine[i / static_cast<int>(kParts) * static_cast<int>(kThreads)]; }
  __device__ void load(const RecurCall& c, const float* state) const {
    for (int i = part; i < c.key_dim; i += kParts) at(i) = there ? state[i * c.stride + column] : 0.0f;
  }
  __device__ void store(const RecurCall& c, float* state) const {
    if (!there) return;
    for (int i = part; i < c.key_dim; i += kParts) state[i * c.stride + column] = at(i);
  }
  /// state = decay * state + key * added.
  __device__ void repeat(const RecurCall& c, const float* key, float decay, float added) const {
    for (int i = part; i < c.key_dim; i += kParts) at(i) = fmaf(key[i], added, decay * at(i));
  }
  /// The sum of the four threads' values.
  static __device__ float together(float value) {
    value += __shfl_xor_sync(kAllLanes, value, 1);
    return value + __shfl_xor_sync(kAllLanes, value, 2);
  }
};

__device__ Columns this_columns(const RecurCall& c) {
  Columns out;
  out.mine = shared<float>() + threadIdx.x;
  out.column = static_cast<int>(blockIdx.x * kColumns + threadIdx.x / kParts);
  out.part = static_cast<int>(threadIdx.x % kParts);
  out.there = out.column < c.value_dim;
  return out;
}

/// The state stands at a border: the slot keeps it, and so do checkpoints that are asked for.
__device__ void reach(const Step& step, const RecurCall& c, const StepSequence& s, std::int64_t head, int position,
                      const Columns& columns) {
  columns.store(c, state_at(c, s.slot, head));
  for (int i = s.saves; i < s.saves_end; ++i)
    if (step.saves[i].position == position)
      columns.store(c, c.checkpoints + step.saves[i].checkpoint * c.checkpoint_floats + head * c.key_dim * c.stride);
}

/// The state before the sequence's first row.
__device__ void begin_state(const Step& step, const RecurCall& c, const StepSequence& s, std::int64_t head,
                            std::int64_t key_head, const Columns& columns) {
  const int first = step.rows[s.first].position;
  float* state = state_at(c, s.slot, head);
  int border = s.border;
  if (s.restore >= 0) {
    columns.load(c, c.checkpoints + s.restore * c.checkpoint_floats + head * c.key_dim * c.stride);
    columns.store(c, state);
    border = first;
  } else if (first == 0) {
    for (int i = columns.part; i < c.key_dim; i += kParts) columns.at(i) = 0.0f;
    columns.store(c, state);
    border = 0;
  } else {
    columns.load(c, state);
  }
  for (int p = border; p < first; ++p)
    columns.repeat(c, keys_at(c, s.slot, key_head, p), *decay_at(c, s.slot, head, p),
                   columns.there ? added_at(c, s.slot, head, p)[columns.column] : 0.0f);
  if (first % kBlock == 0 && border < first) reach(step, c, s, head, first, columns);
}

__device__ void compute_row(const RecurCall& c, const StepSequence& s, std::int64_t row, int position,
                            std::int64_t head, std::int64_t key_head, const Columns& columns) {
  const float* x = c.x + row * c.x_width;
  const float *key = x + c.key + key_head * c.key_dim, *query = x + c.query + key_head * c.key_dim;
  const float decay = c.decays[row * c.value_heads + head], strength = c.strengths[row * c.value_heads + head];
  const float value = columns.there ? x[c.value + head * c.value_dim + columns.column] : 0.0f;
  float found = 0.0f, sum = 0.0f;
  if (c.corrects) {
    for (int i = columns.part; i < c.key_dim; i += kParts) found = fmaf(decay * columns.at(i), key[i], found);
    found = Columns::together(found);
  }
  const float added = strength * (value - found);
  columns.repeat(c, key, decay, added);
  for (int i = columns.part; i < c.key_dim; i += kParts) sum = fmaf(columns.at(i), query[i], sum);
  sum = Columns::together(sum);
  if (columns.part != 0 || !columns.there) return;
  if (c.skip) sum = fmaf(c.skip[head], value, sum);
  c.out[(row * c.value_heads + head) * c.value_dim + columns.column] = sum;
  added_at(c, s.slot, head, position)[columns.column] = added;
}

/// A block for some columns of a value head of a sequence.
__global__ void __launch_bounds__(kThreads) recur_kernel(Step step, RecurCall c) {
  const std::int64_t head = blockIdx.y;
  const std::int64_t key_head = c.tiled ? head % c.key_heads : head / (c.value_heads / c.key_heads);
  const StepSequence& s = step.sequences[blockIdx.z];
  if (s.first == s.end) return;
  const Columns columns = this_columns(c);
  begin_state(step, c, s, head, key_head, columns);
  for (int row = s.first; row < s.end; ++row) {
    const int position = step.rows[row].position;
    compute_row(c, s, row, position, head, key_head, columns);
    const bool draft = row + s.drafts >= s.end;
    if ((position + 1) % kBlock == 0 && !draft) reach(step, c, s, head, position + 1, columns);
  }
}

/// Keys and decays of the last 64 positions, once nothing reads what they replace.
__global__ void __launch_bounds__(kThreads) keep_kernel(Step step, RecurCall c) {
  const StepSequence& s = step.sequences[blockIdx.y];
  if (s.first == s.end) return;
  const int first = step.rows[s.first].position, last = step.rows[s.end - 1].position;
  const int position = last - (last - static_cast<int>(blockIdx.x) + kBlock) % kBlock;  // the last one in this place
  if (position < first) return;
  const std::int64_t row = s.first + position - first;
  const int keys = c.key_heads * c.key_dim;
  for (int i = static_cast<int>(threadIdx.x); i < keys; i += kThreads)
    keys_at(c, s.slot, i / c.key_dim, position)[i % c.key_dim] = c.x[row * c.x_width + c.key + i];
  for (int head = static_cast<int>(threadIdx.x); head < c.value_heads; head += kThreads)
    *decay_at(c, s.slot, head, position) = c.decays[row * c.value_heads + head];
}

}  // namespace

void recur(StreamHandle stream, const Step& step, const RecurCall& c) {
  if (step.row_count == 0) return;
  const auto rows = static_cast<unsigned>(step.row_count), sequences = static_cast<unsigned>(step.sequence_count),
             heads = static_cast<unsigned>(c.value_heads);
  const std::int64_t rates = std::int64_t{step.row_count} * c.value_heads;
  if (c.unit) launch(unit_kernel, dim3(rows, static_cast<unsigned>(c.key_heads)), 32, 0, stream, c);
  launch(rates_kernel, blocks_for(rates, kThreads), kThreads, 0, stream, rates, c);
  const std::size_t bytes = (static_cast<std::size_t>(c.key_dim) + kParts - 1) / kParts * kThreads * sizeof(float);
  launch(recur_kernel, dim3(blocks_for(c.value_dim, kColumns), heads, sequences), kThreads, bytes, stream, step, c);
  launch(keep_kernel, dim3(kBlock, sequences), kThreads, 0, stream, step, c);
}

}  // namespace llorch::cuda
