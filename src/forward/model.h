// A model on a device: its weights, the room its steps need, and the one walk over its blocks.
//
// Checkpoints (the names that parity tools observe; NN is the layer): embedding, layer_NN.attn_norm, .q, .k, .v (after
// projection and bias), .q_rope, .k_rope (as attention sees them), .attn (heads, before the output projection),
// .attn_out (after it), .attn_residual, .mlp_norm, .router (logits), .mlp (output), .output (residual stream),
// final_norm, logits.
// Ownership: the Device and the WeightSource outlive the Model. Threads: one at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/work_limit.h"
#include "device/device.h"
#include "format/weight_source.h"
#include "model/adapter.h"
#include "model/graph.h"

namespace llorch {

/// Sees every named intermediate value: rows x columns floats.
using Observer = std::function<void(const std::string& name, std::span<const float> values, std::int64_t rows,
                                    std::int64_t columns)>;

/// How far a model is loaded. Layers count when they are whole.
struct LoadProgress {
  std::size_t tensors_loaded = 0, tensors_total = 0;
  int layers_loaded = 0, layers_total = 0;
};
using ProgressSink = std::function<void(const LoadProgress&)>;

class Model {
 public:
  struct Options {
    int rows_max = 512;  // tokens of one step
    int sequences = 0;   // of one step; 0: any number, and all rows may have logits
    ProgressSink progress;
    CancelFlag cancelled;  // true ends loading with kCancelled, within some milliseconds
  };
  /// Loads all tensors of the graph. Errors: kModelLoadFailed, kCancelled, kInsufficientMemory, kIo, kModelChanged.
  [[nodiscard]] static Result<std::unique_ptr<Model>> load(Device& device, WeightSource& source, Graph graph,
                                                           const Options& options);

  /// Takes an adapter whose pairs are bound to this graph; plans name it by its number, counted from 0. Before the
  /// first step. Errors: kInsufficientMemory.
  [[nodiscard]] Status add_adapter(const Adapter& adapter);
  /// Those that were added, by their numbers.
  struct AdapterFacts {
    std::string name, identity;
    float asked_scale = 1;
    std::int64_t bytes = 0;
  };
  [[nodiscard]] const std::vector<AdapterFacts>& adapters() const { return adapters_; }

  [[nodiscard]] const Graph& graph() const { return graph_; }
  [[nodiscard]] int rows_max() const { return rows_max_; }
  /// Of rows with logits in one step.
  [[nodiscard]] std::int64_t logit_rows_max() const { return logit_rows_max_; }
  [[nodiscard]] Device& device() const { return device_; }
  /// As many pages in each group.
  [[nodiscard]] CacheShape cache_shape(int pages, KvPrecision precision, int slots = 1, int checkpoints = 0) const {
    const std::vector<int> windows = graph_.cache_windows();
    return {graph_.cache_layers(),
            graph_.slot_layers(),
            windows,
            std::vector<int>(windows.size(), pages),
            slots,
            checkpoints,
            precision};
  }

  /// Has the device take all memory that steps up to these sizes need. Errors: kVramOom.
  [[nodiscard]] Status rehearse(const StepSizes& sizes, Cache& cache);

  /// Computes one step of up to rows_max rows, with logits of up to logit_rows_max. Errors: kModelChanged: a file was
  /// changed under the model, and nothing that was computed counts; kIo.
  [[nodiscard]] Result<StepResult> forward(const StepPlan& plan, Cache& cache, const Observer* observer = nullptr);

  /// The device operations of a step with so many rows, rows with logits, and rows whose states are wanted: between the
  /// device's begin() and finish().
  void walk(std::int64_t rows, std::int64_t logit_rows, std::int64_t state_rows);

  /// For tests of mixtures: sees a layer's routing logits (rows, experts), by checkpoint name, and may replace them.
  std::function<void(const std::string& name, std::span<float> logits)> router_probe;

 private:
  Model(Device& device, WeightSource& source, Graph graph, int rows_max, std::int64_t logit_rows_max)
      : device_(device),
        source_(source),
        graph_(std::move(graph)),
        rows_max_(rows_max),
        logit_rows_max_(logit_rows_max),
        cache_indices_(graph_.cache_indices()) {}
  [[nodiscard]] Status load_tensors(const Options& options);
  [[nodiscard]] Status load_tensor(const TensorUse& use, std::size_t index, const Device::Read& read);
  [[nodiscard]] Status load_constant(const TensorUse& use, std::size_t index);
  [[nodiscard]] Status allocate();

  [[nodiscard]] const Weight* weight(TensorId id) const {
    return id.there() ? weights_[static_cast<std::size_t>(id.index)].get() : nullptr;
  }
  [[nodiscard]] FloatSpan vector(TensorId id) const {
    return id.there() ? vectors_[static_cast<std::size_t>(id.index)].span() : FloatSpan();
  }
  struct Product {
    const Linear* linear = nullptr;
    FloatSpan out;
  };
  /// Products with the same x, whose rows are those of the step from `first` on, or of a set; and what adapters add.
  void multiply(std::span<const Product> products, FloatSpan x, RowSet rows = RowSet::kAll, std::int64_t first = 0);
  void multiply(const Linear& linear, FloatSpan x, FloatSpan out) {
    const Product one[] = {{&linear, out}};
    multiply(one, x);
  }
  void normalize(const Norm& norm, FloatSpan x, FloatSpan out, const Guard* guard) const;
  [[nodiscard]] Guard guard(Place place) const { return {place, layer_, RowSet::kAll, 0}; }

  void embed();
  void compute(const Block& block);
  void mix(const Block& block);  // into branch_
  void feed_forward(const Block& block, FloatSpan out);
  void mix(const std::monostate&, FloatSpan, FloatSpan) {}
  void mix(const SoftmaxAttention& a, FloatSpan x, FloatSpan out);
  void mix(const LatentAttention& a, FloatSpan x, FloatSpan out);
  void mix(const GatedDeltaNet& m, FloatSpan x, FloatSpan out);
  void mix(const ShortConvolution& m, FloatSpan x, FloatSpan out);
  void mix(const Mamba2& m, FloatSpan x, FloatSpan out);
  void turn_heads(const SoftmaxAttention& a, FloatSpan q, FloatSpan k);
  void norm_heads(const SoftmaxAttention& a, FloatSpan q, FloatSpan k);
  void convolve(const Convolution& convolution, bool silu, FloatSpan x, FloatSpan out);
  [[nodiscard]] int memory() const { return cache_indices_[static_cast<std::size_t>(layer_)]; }
  void feed_forward(const std::monostate&, FloatSpan, FloatSpan) {}
  void feed_forward(const Mlp& mlp, FloatSpan x, FloatSpan out);
  void feed_forward(const Moe& moe, FloatSpan x, FloatSpan out);
  void make_layer_inputs(const LayerInputs& inputs, FloatSpan stream);
  void add_layer_input(const LayerInput& input, FloatSpan stream);
  void finish(RowSet rows, std::int64_t count, FloatSpan normed);
  [[nodiscard]] FloatSpan room(const FloatBuffer& buffer, std::int64_t width) const {
    return buffer.span().as(rows_, width);
  }
  void observe(const char* name, FloatSpan values);

  Device& device_;
  WeightSource& source_;
  Graph graph_;
  int rows_max_;
  std::int64_t logit_rows_max_;
  std::vector<int> cache_indices_;                // of each block
  std::vector<std::unique_ptr<Weight>> weights_;  // by TensorId; of tables and matrices
  std::vector<FloatBuffer> vectors_;              // by TensorId
  std::vector<std::unique_ptr<RopeTable>> ropes_;
  std::vector<AdapterFacts> adapters_;
  std::vector<FloatBuffer> adapter_values_;
  std::vector<std::vector<LowRank>> low_rank_;  // by TensorId, where there are adapters: what they add
  std::span<const std::byte> embedding_bytes_;  // which steps go on reading

  // Room for rows_max rows. normed_ holds what attention found as well, branch_ its queries: what was there before is
  // not needed any more.
  FloatBuffer stream_, normed_, branch_, key_, value_, extra_, beside_, heads_, turned_, gate_, up_, router_, picked_,
      expert_out_, selected_, logits_, layer_inputs_, layer_rows_;
  // Of the walk under way.
  std::int64_t rows_ = 0;
  int layer_ = 0;
  const Observer* observer_ = nullptr;
  std::string prefix_;  // of checkpoint names: "layer_07." or ""
};

}  // namespace llorch
