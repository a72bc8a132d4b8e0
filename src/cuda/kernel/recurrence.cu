#include "cuda/kernel/recurrence.h"

#include "cuda/kernel/block.h"

namespace llorch::cuda {
namespace {

constexpr int kBlock = SlotLayer::kBlock;
constexpr unsigned kThreads = 128;
/// Threads for a column of the state, so that it fits into their registers.
constexpr int parts_for(int key_dim) { return key_dim <= 128 ? 4 : 16; }
constexpr int columns_for(int parts) { return static_cast<int>(kThreads) / parts; }

static_assert(kBlock >= 2 * limits::kDraftsMax, "drafts of this step and of the last one have places of their own");

__device__ float* state_at(const RecurCall& c, std::int64_t slot, std::int64_t head) {
  return c.slots + slot * c.slot_floats + head * c.key_dim * c.stride;
}
// Of a draft, by its place.
__device__ float* added_at(const RecurCall& c, std::int64_t slot, std::int64_t head, int place) {
  return state_at(c, slot, c.value_heads) + (head * kBlock + place) * c.stride;
}
__device__ float* decay_at(const RecurCall& c, std::int64_t slot, std::int64_t head, int place) {
  return added_at(c, slot, c.value_heads, 0) + head * kBlock + place;
}
__device__ float* keys_at(const RecurCall& c, std::int64_t slot, std::int64_t key_head, int place) {
  return decay_at(c, slot, c.value_heads, 0) + (key_head * kBlock + place) * c.key_dim;
}

/// Of a block's columns: where the slot's state stands.
__device__ float* standing(const RecurCall& c, std::int64_t slot, std::int64_t head) {
  return keys_at(c, slot, c.key_heads, 0) + head * gridDim.x + blockIdx.x;
}
/// A state is that before `position`; drafts behind it lie in half `half` of their places.
struct Standing {
  int position, half;
  [[nodiscard]] __device__ int place(int of) const { return half * limits::kDraftsMax + of % limits::kDraftsMax; }
};

__device__ const float* value_of(const HeadValues& of, std::int64_t row, std::int64_t head) {
  return of.x + row * of.width + of.first + head / of.group * of.step + head % of.group;
}

/// The rows that are on the way to a block, and those that it computes.
template<int kKeys, int kColumns>
struct RowStage {
  static constexpr int kRows = 8;
  alignas(16) float keys[kRows][kKeys], queries[kRows][kKeys];  // zeros from key_dim on
  float values[kRows][kColumns];
  float decays[kRows], strengths[kRows];  // at first, what they are made of
};

/// Some columns of a head's state, a column in the registers of kParts threads: of its values a thread has four of
/// every 4 * kParts, kValues in all.
template<int kParts, int kValues>
struct Columns {
  static constexpr int kKeys = kValues * kParts, kColumns = columns_for(kParts);
  using Stage = RowStage<kKeys, kColumns>;
  const RecurCall& c;
  std::int64_t head, key_head;
  int column, part;
  bool there;
  float values[kValues];

  __device__ Columns(const RecurCall& call, std::int64_t of_head)
      : c(call), head(of_head), key_head(c.tiled ? head % c.key_heads : head / (c.value_heads / c.key_heads)) {
    column = static_cast<int>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x) / kParts;
    part = static_cast<int>(threadIdx.x) % kParts;
    there = column < c.value_dim;
  }
  [[nodiscard]] __device__ int index(int i) const { return i / 4 * 4 * kParts + 4 * part + i % 4; }
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
  __device__ void stand(const StepSequence& s, Standing at) const {
    store(state_at(c, s.slot, head));
    if (threadIdx.x == 0) *standing(c, s.slot, head) = __int_as_float(2 * at.position + at.half);
  }
  /// What a draft added.
  __device__ void repeat(const StepSequence& s, int place) {
    const float* key = keys_at(c, s.slot, key_head, place);
    const float decay = *decay_at(c, s.slot, head, place),
                added = there ? added_at(c, s.slot, head, place)[column] : 0.0f;
#pragma unroll
    for (int i = 0; i < kValues; ++i)
      if (index(i) < c.key_dim) values[i] = fmaf(key[index(i)], added, values[i] * decay);
  }
  /// The state before the sequence's first row. Returns the half of places that this step's drafts take.
  __device__ int begin(const Step& step, const StepSequence& s, int first) {
    if (s.restore >= 0) {
      load(c.checkpoints + s.restore * c.checkpoint_floats + head * c.key_dim * c.stride);
      return 0;
    }
    fill(0.0f);
    if (first == 0) return 0;
    const int bits = __float_as_int(*standing(c, s.slot, head));
    const Standing at{bits / 2, bits % 2};
    load(state_at(c, s.slot, head));
    for (int p = at.position; p < first; ++p) repeat(s, at.place(p));
    if (at.position < first) save(step, s, first);
    if (at.position > first) fill(NAN);  // of a step that was not finished: the sequence must not go on
    return 1 - at.half;
  }
  /// Row r of a stage is a draft. One block of a head keeps its decay, and of a key head the key.
  __device__ void keep(const StepSequence& s, const Stage& stage, int r, int place, float added) const {
    if (there && part == 0) added_at(c, s.slot, head, place)[column] = added;
    if (blockIdx.x != 0) return;
    if (threadIdx.x == 0) *decay_at(c, s.slot, head, place) = stage.decays[r];
    if (head != (c.tiled ? key_head : key_head * (c.value_heads / c.key_heads))) return;
    for (int i = static_cast<int>(threadIdx.x); i < c.key_dim; i += kThreads)
      keys_at(c, s.slot, key_head, place)[i] = stage.keys[r][i];
  }

  /// The sum over the threads of a column, from four of each.
  static __device__ __forceinline__ float together(const float (&sums)[4]) {
    float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
#pragma unroll
    for (int lanes = 1; lanes < kParts; lanes *= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
    return sum;
  }
  /// The state takes row r of a stage. Returns the row's output and what was added.
  __device__ __forceinline__ float2 compute(const Stage& stage, int r) {
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
  __device__ __forceinline__ void fetch(Stage& to, int row, int end) const {
    const int rows = min(Stage::kRows, end - row), first = static_cast<int>(blockIdx.x) * kColumns;
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
    for (int i = static_cast<int>(threadIdx.x); i < rows * kColumns; i += kThreads) {
      const int r = i / kColumns, v = i % kColumns;
      copy(&to.values[r][v], x + r * c.x_width + c.value + head * c.value_dim + first + v, first + v < c.value_dim);
    }
    if (const int r = static_cast<int>(threadIdx.x); r < rows) {
      copy(&to.decays[r], value_of(c.step, row + r, head), true);
      copy(&to.strengths[r], value_of(c.strength.x ? c.strength : c.step, row + r, head), true);
    }
    copy_commit();
  }

  /// Queries and keys of length 1, where they are wanted so; decays and strengths. A warp for some rows of a stage.
  __device__ __forceinline__ void prepare(Stage& stage, int rows) const {
    for (int r = static_cast<int>(threadIdx.x / 32); r < rows; r += static_cast<int>(kThreads / 32)) {
      if (c.unit) bring_to_length(stage.keys[r], 1.0f), bring_to_length(stage.queries[r], c.scale);
      if (threadIdx.x % 32 != 0) continue;
      const float step = stage.decays[r] + c.step_bias[head];
      const float plus = fmaxf(step, 0.0f) + log1pf(expf(-fabsf(step)));  // softplus
      stage.decays[r] = expf(c.rate[head] * plus);
      stage.strengths[r] = c.strength.x ? sigmoid(stage.strengths[r]) : plus;
    }
  }
  __device__ __forceinline__ void bring_to_length(float (&x)[kKeys], float length) const {
    float squares = 0.0f;
    for (int i = static_cast<int>(threadIdx.x % 32); i < kKeys; i += 32) squares = fmaf(x[i], x[i], squares);
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(kAllLanes, squares, step);
    const float factor = length / sqrtf(squares + c.eps);
    for (int i = static_cast<int>(threadIdx.x % 32); i < kKeys; i += 32) x[i] *= factor;
  }
};

/// A block for some columns of a value head of a sequence.
template<int kParts, int kValues>
__global__ void __launch_bounds__(kThreads, kValues <= 16 ? 4 : 3) recur_kernel(Step step, RecurCall c) {
  using Stage = typename Columns<kParts, kValues>::Stage;
  const StepSequence& s = step.sequences[blockIdx.z];
  if (s.first == s.end) return;
  auto* stages = shared<Stage>();
  Columns<kParts, kValues> columns(c, blockIdx.y);
  columns.fetch(stages[0], s.first, s.end);
  const int kept = s.end - s.drafts;  // rows from here on may be taken back
  int position = step.rows[s.first].position;
  const int half = columns.begin(step, s, position);
  for (int row = s.first; row < s.end; ++row, ++position) {
    const int r = (row - s.first) % Stage::kRows;
    Stage& stage = stages[(row - s.first) / Stage::kRows % 2];
    if (r == 0) {
      copy_wait<0>();
      __syncthreads();  // the rows are there for all, and nobody reads the other stage any more
      if (row + Stage::kRows < s.end)
        columns.fetch(stages[((row - s.first) / Stage::kRows + 1) % 2], row + Stage::kRows, s.end);
      columns.prepare(stage, min(Stage::kRows, s.end - row));
      __syncthreads();
    }
    const Standing here{position, half};
    if (row == kept) columns.stand(s, here);
    const float2 out = columns.compute(stage, r);
    if (columns.there && columns.part == 0)
      c.out[(row * c.value_heads + columns.head) * c.value_dim + columns.column] = out.x;
    if (row >= kept) columns.keep(s, stage, r, here.place(position), out.y);
    if ((position + 1) % kBlock == 0 && row < kept) columns.save(step, s, position + 1);
  }
  if (kept == s.end) columns.stand(s, {position, half});
}

template<int kParts, int kValues>
void launch_recur(StreamHandle stream, const Step& step, const RecurCall& c) {
  using Some = Columns<kParts, kValues>;
  const dim3 grid(blocks_for(c.value_dim, Some::kColumns), static_cast<unsigned>(c.value_heads),
                  static_cast<unsigned>(step.sequence_count));
  launch(recur_kernel<kParts, kValues>, grid, kThreads, 2 * sizeof(typename Some::Stage), stream, step, c);
}

}  // namespace

std::int64_t recur_floats(const SlotLayer& layer) {
  const std::int64_t inputs = std::int64_t{layer.kept()} * layer.channels;
  const int columns = columns_for(parts_for(layer.key_dim));
  return layer.floats() - inputs +
         std::int64_t{layer.value_heads} * blocks_for(layer.value_dim, static_cast<unsigned>(columns));
}

void recur(StreamHandle stream, const Step& step, const RecurCall& c) {
  if (step.row_count == 0) return;
  static_assert(limits::kRecurrentDimMax <= 16 * 32);
  if (c.key_dim <= 64)
    launch_recur<parts_for(64), 16>(stream, step, c);
  else if (c.key_dim <= 128)
    launch_recur<parts_for(128), 32>(stream, step, c);
  else
    launch_recur<parts_for(512), 32>(stream, step, c);
}

}  // namespace llorch::cuda
