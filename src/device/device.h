// What models are computed on: memory, weights, and the operations that models are made of.
//
// A step is begin(plan), operations, finish(). Operations take and give memory of the device alone, return nothing, and
// may run later than they are called, in their order; what they read of the step (ids, positions, pages, rows that are
// wanted, how tokens are drawn) they take from the plan. So one sequence of calls computes every step with as many rows
// of each kind, and can be recorded once and replayed (recording.h). What goes wrong is told by finish(): for a row,
// where its values stopped being finite; else an error of the whole step.
//
// Every operation treats each row by itself, in a fixed order: a row's bits do not depend on its neighbours, on threads
// or on how a prompt was cut. Shapes are the caller's duty and are asserted. Threads: one at a time; weights may be
// read from several. Implementations: cpu/ (kernels of the instruction sets), reference/ (slow, in double).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "device/buffer.h"
#include "device/cache.h"
#include "device/plan.h"
#include "model/kinds.h"
#include "model/rope.h"
#include "tensor/tensor.h"

namespace llorch {

/// One matrix (rows, columns), or as many `parts` of that shape as a mixture has experts, in the device's own layout.
class Weight {
 public:
  /// `bytes`: of all parts, as products read them.
  Weight(std::int64_t rows, std::int64_t columns, std::int64_t parts, std::int64_t bytes)
      : rows_(rows), columns_(columns), parts_(parts), bytes_(bytes) {}
  virtual ~Weight() = default;
  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] std::int64_t columns() const { return columns_; }
  [[nodiscard]] std::int64_t parts() const { return parts_; }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  std::int64_t rows_, columns_, parts_, bytes_;
};

/// Sines and cosines of a step's positions, on a device.
class RopeTable {
 public:
  explicit RopeTable(RopeSpec spec) : spec_(std::move(spec)) {}
  virtual ~RopeTable() = default;
  [[nodiscard]] const RopeSpec& spec() const { return spec_; }

 private:
  RopeSpec spec_;
};

/// out (rows, weight rows) = x (rows, weight columns) times the weight transposed, plus bias (empty: none).
struct LinearPart {
  const Weight* weight = nullptr;
  FloatSpan bias;
  FloatSpan out;
};

/// What one adapter adds to a product, in the rows of its sequences: out += scale * b(a(x)).
struct LowRank {
  std::int32_t adapter = 0;  // StepPlan::Sequence::adapter
  FloatSpan a;               // (rank, columns of the weight)
  FloatSpan b;               // (rank, rows of the weight)
  float scale = 1;
};
/// The same of all adapters that change one matrix, each at most once.
struct LowRankPart {
  std::span<const LowRank> adapters;
  FloatSpan out;  // (rows, weight rows)
};

/// Softmax attention of each row over what its sequence has in the cache, itself included.
struct AttentionCall {
  FloatSpan query;  // (rows, heads * head_dim)
  FloatSpan out;    // (rows, heads * head_dim)
  int layer = 0;    // of the cache
  int heads = 0;
  float scale = 1;
  int window = 0;          // 0: all earlier positions; both ways half of it to each side
  float softcap = 0;       // 0: none
  FloatSpan sinks;         // one logit per head that joins the softmax's denominator, or empty
  bool both_ways = false;  // over all rows of the sequence, later ones too (encoders)
};

/// A causal convolution of each channel over its sequence (model/mixer/short_convolution.h); the last inputs of a
/// sequence are kept in its slot.
struct ConvolutionCall {
  int layer = 0;     // of slots
  FloatSpan weight;  // (taps, channels)
  FloatSpan bias;    // (channels), or empty
  bool silu = false;
  FloatSpan x, out;  // (rows, channels)
};

/// Of each value head of a row, some numbers: of head h column first + h / group * step + h % group.
struct HeadColumns {
  FloatSpan x;
  std::int64_t first = 0, group = 1, step = 1;
};

/// A linear recurrence with decay over each sequence, whose state is kept in its slot (model/state.h,
/// model/mixer/gated_delta_net.h, mamba2.h). Of value head h in row t, with key head `key`:
///   strength = sigmoid(strength) where it is given, else softplus(step + step_bias)
///   S' = exp(rate * softplus(step + step_bias)) S
///   u = strength * (value - S'^T key) where it corrects, else strength * value
///   S = S' + key u^T;  out = S^T query + skip * value
struct RecurrenceCall {
  int layer = 0;                               // of slots
  FloatSpan x;                                 // (rows, channels); queries and keys are changed
  std::int64_t query = 0, key = 0, value = 0;  // first columns of each: heads side by side
  bool tiled = false;                          // value head h uses key head h % key heads
  bool corrects = false;
  bool unit = false;  // queries and keys are brought to length 1, queries then times `scale`
  float eps = 0, scale = 1;
  HeadColumns step, strength;       // strength.x may be empty
  FloatSpan step_bias, rate, skip;  // (value heads); skip may be empty
  FloatSpan out;                    // (rows, value heads * value_dim)
};

/// out (rows, dim) = the sum over each row's experts, best first, of weight * expert(x).
struct MoeCall {
  Routing routing;
  FloatSpan logits;        // (rows, experts)
  FloatSpan expert_scale;  // of each expert's weight, or empty
  FloatSpan choice_bias;   // one for each expert, counts for the choice alone; or empty
  const Weight *gate = nullptr, *up = nullptr, *down = nullptr;  // a part for each expert
  FloatSpan gate_bias, up_bias, down_bias;                       // (experts, rows of the weight), or empty
  Activation activation;
  FloatSpan x, out;
  Guard guard;  // of values inside the experts
  // Room: (some, rows of gate) twice and (as many, dim), for at least as many rows as x has; (rows * active, dim).
  FloatSpan inside_gate, inside_up, picked, results;
};

/// Bytes of a device's own memory.
struct MemoryUse {
  std::int64_t taken = 0;  // by this device's weights, buffers, caches and room
  std::int64_t free = 0, total = 0;
  std::int64_t reserve = 0;  // of what is free: stays for what is not counted
};

/// The largest step that comes.
struct StepSizes {
  std::int64_t rows = 1, sequences = 1, logit_rows = 1, state_rows = 0;
  std::int64_t positions = 1;  // of a sequence
  /// Numbers of 4 bytes in its lists of pages, saves, known tokens (4 each) and allowed tokens.
  std::int64_t plan_words = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual std::string_view isa() const = 0;  // of the kernels, "reference"

  // ---- weights and memory
  /// Copies some of a tensor's bytes; from any thread. Its errors end what asked for them. Empty: the tensor's span
  /// lies in memory.
  using Read = std::function<Status(std::span<const std::byte> part, std::byte* to)>;
  /// A matrix for linear(), or (rows / parts, columns) for each expert, copied. Errors: kModelLoadFailed where a weight
  /// that is read is not finite.
  [[nodiscard]] virtual Result<std::unique_ptr<Weight>> matrix(const TensorView& tensor, std::int64_t parts,
                                                               const Read& read) = 0;
  /// A matrix for embed(), which goes on reading the tensor's own bytes.
  [[nodiscard]] virtual Result<std::unique_ptr<Weight>> table(const TensorView& tensor, Read read) = 0;
  /// Any float tensor (rows, columns) as plain floats. Errors: kModelLoadFailed where one is not finite.
  [[nodiscard]] Result<FloatBuffer> vector(const TensorView& tensor, const Read& read);
  /// All weights have come. True: they were mapped, packed, from a cache.
  virtual bool loaded() { return false; }
  /// Whether mapped weights still are what they were; asked after each step, whose results count only then. Errors:
  /// kModelChanged.
  [[nodiscard]] virtual Status intact() { return {}; }

  [[nodiscard]] virtual Result<FloatBuffer> allocate(std::int64_t rows, std::int64_t width) = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<Cache>> make_cache(const CacheShape& shape) = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<RopeTable>> make_rope(const RopeSpec& spec) = 0;
  /// The host's view of device memory, for loading, tests and observers: no step needs them.
  virtual void upload(std::span<const float> from, FloatSpan to) = 0;
  virtual void download(FloatSpan from, std::span<float> to) = 0;

  /// None: its memory is the host's.
  [[nodiscard]] virtual std::optional<MemoryUse> memory() const { return std::nullopt; }
  /// A device that takes what this one would take and only counts it: addresses without memory, operations that compute
  /// nothing. Null: this one's memory is the host's.
  [[nodiscard]] virtual std::unique_ptr<Device> measuring() const { return nullptr; }
  /// Whether all that this device holds is still there, in its own memory, and can be read. Between steps. Errors:
  /// kCudaError.
  [[nodiscard]] virtual Status check_resident() { return {}; }
  /// From here to end_rehearsal() operations take the room that steps up to these sizes need, and compute nothing.
  /// False: this device takes room as steps come, and there is no end.
  [[nodiscard]] virtual bool begin_rehearsal(const StepSizes&, Cache&) { return false; }
  /// Errors: kVramOom.
  [[nodiscard]] virtual Status end_rehearsal() { return {}; }

  // ---- a step
  /// Takes all of the plan; `cache` holds what its sequences remember. Positions and ids are in range and every row's
  /// page is allocated: the engine guarantees it.
  virtual void begin(const StepPlan& plan, Cache& cache) = 0;
  /// After begin(). True: the operations of an earlier step of the same walker, with as many rows of each kind, run
  /// again for this plan, and finish() follows. False: the caller calls its operations, always the same ones for such a
  /// step, and the device may keep them.
  [[nodiscard]] virtual bool replay(const void*) { return false; }
  /// After the operations that followed a replay() that gave false. True: the device tried to keep them, could not, and
  /// none of them runs; the caller calls them once more.
  [[nodiscard]] virtual bool repeat() { return false; }
  /// Waits for the step. Errors: of reading embeddings (kModelChanged, kIo), of the device; nothing that was computed
  /// counts then.
  [[nodiscard]] virtual Result<StepResult> finish() = 0;

  /// out (rows, columns) = the table's row for each token, or the plan's embedding.
  virtual void embed_tokens(const Weight& table, FloatSpan out) = 0;
  /// out (rows, columns) = the table's row for each token; in the place of a plan's embedding its first row.
  virtual void look_up_tokens(const Weight& table, FloatSpan out) = 0;
  /// out += the table's row for each position.
  virtual void add_positions(const Weight& table, FloatSpan out) = 0;
  /// out += the table's row for each token's type.
  virtual void add_types(const Weight& table, FloatSpan out) = 0;
  /// The table's values for the step's positions; rope() reads them.
  virtual void fill_rope(RopeTable& table) = 0;
  /// Rotates the first values of each head of x (rows, heads * head_dim).
  virtual void rope(FloatSpan x, int heads, const RopeTable& table) = 0;

  /// x is (any, weight's width): heads of a row may be normalised by themselves. Row r takes row r % rows of the
  /// weight. The square sum of a row that overflows makes it not finite. Without a guard nothing is looked at.
  virtual void rms_norm(FloatSpan x, FloatSpan weight, float eps, FloatSpan out, const Guard* guard) = 0;
  virtual void layer_norm(FloatSpan x, FloatSpan weight, FloatSpan bias, float eps, FloatSpan out,
                          const Guard* guard) = 0;
  /// Rows with a value that is not finite or above `limit` become zeros, and are faults.
  virtual void check(FloatSpan x, float limit, const Guard& guard) = 0;
  /// The parts' weights have the same columns.
  virtual void linear(std::span<const LinearPart> parts, FloatSpan x) = 0;
  /// Adds to linear()'s results; x is what it had. Row r of x and of the parts' outs is row `first` + r of `rows`. The
  /// parts' lists stay where they are as long as the operation may run.
  virtual void add_low_rank(std::span<const LowRankPart> parts, FloatSpan x, RowSet rows, std::int64_t first) = 0;
  /// A product for each head: row r * parts + p of x with part p of the weight.
  virtual void linear_heads(const Weight& weight, FloatSpan x, FloatSpan out) = 0;
  virtual void activate(const Activation& kind, FloatSpan gate, FloatSpan up, FloatSpan out, const Guard& guard) = 0;
  /// Columns from..from+count of x to columns to.. of out, in each row.
  virtual void copy_columns(FloatSpan x, std::int64_t from, std::int64_t count, FloatSpan out, std::int64_t to) = 0;
  /// x = 0.
  virtual void clear(FloatSpan x) = 0;
  /// out += scale * x.
  virtual void add(FloatSpan x, float scale, FloatSpan out) = 0;
  /// x *= scale.
  virtual void scale(FloatSpan x, float scale) = 0;
  /// x (rows, width) *= sigmoid(gate), gate (rows, width) or one value for each row (rows, 1).
  virtual void gate(FloatSpan gate, FloatSpan x) = 0;
  /// x = cap * tanh(x / cap).
  virtual void soft_cap(FloatSpan x, float cap) = 0;
  /// out *= x.
  virtual void multiply(FloatSpan x, FloatSpan out) = 0;
  virtual void moe(const MoeCall& call) = 0;

  /// key, value (rows, kv_heads * head_dim) go to their rows' positions of a layer of the cache.
  virtual void write_cache(int layer, FloatSpan key, FloatSpan value) = 0;
  virtual void attend(const AttentionCall& call) = 0;
  virtual void convolve(const ConvolutionCall& call) = 0;
  virtual void recur(const RecurrenceCall& call) = 0;

  /// out = the rows of x (all rows, width) that the plan wants.
  virtual void select(FloatSpan x, RowSet rows, FloatSpan out) = 0;
  /// What the host gets of a step: logits and states where the plan wants them, and tokens drawn from the logits.
  virtual void give_states(FloatSpan states) = 0;
  virtual void give_logits(FloatSpan logits) = 0;
};

}  // namespace llorch
