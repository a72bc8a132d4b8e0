// The one forward pass. Families differ by which parts are present; arch/<name>.cc puts them together.
//
// Checkpoints (the names that parity tools observe; NN is the layer): embedding, layer_NN.attn_norm, .q, .k, .v (after
// projection and bias), .q_rope, .k_rope (as attention sees them), .attn (heads, before the output projection),
// .attn_out (after it), .attn_residual, .mlp_norm, .mlp (output), .output (residual stream), final_norm, logits.
// Ownership: a Decoder owns its weights and scratch; the Backend and the WeightSource outlive it.
// Threads: one at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "nn/backend.h"
#include "nn/rope.h"

namespace llorch {

struct Norm {
  DeviceBuffer weight;
  DeviceBuffer bias;  // empty: RMSNorm; else LayerNorm
  float eps = 1e-5f;
};

struct Linear {
  std::unique_ptr<Weight> weight;
  DeviceBuffer bias;  // empty: none
};

struct Attention {
  Linear query, key, value, output;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 1;
  int window = 0;                  // 0: all earlier positions
  float softcap = 0;               // 0: none
  int rope = -1;                   // index into Decoder::Parts::ropes; -1: none
  std::optional<Norm> query_norm;  // per head
  std::optional<Norm> key_norm;
  std::vector<float> sinks;  // one per head, or empty
};

struct Mlp {
  Activation kind = Activation::kSiluMul;
  Linear gate;  // absent for kGelu
  Linear up, down;
};

struct Moe {
  struct Expert {
    Linear gate, up, down;
  };
  Linear router;
  std::vector<Expert> experts;
  int active = 0;  // experts per token; weights are the softmax over the selected ones
  Activation kind = Activation::kSwigluClamped;
  float limit = 0, alpha = 0;
};

struct Layer {
  Norm attention_norm;
  Attention attention;
  Norm mlp_norm;
  std::variant<Mlp, Moe> mlp;
};

/// Sees every named intermediate value: rows x columns floats.
using Observer = std::function<void(const std::string& name, std::span<const float> values, std::int64_t rows,
                                    std::int64_t columns)>;

/// Where values of a row of a pass were first not finite, or too large to compute with.
struct RowFault {
  int layer = 0;                // the number of layers: after them
  const char* place = nullptr;  // null: nowhere
};

class Decoder {
 public:
  struct Parts {
    int dim = 0;
    int vocab = 0;
    int context = 0;  // positions the model can take
    std::unique_ptr<Weight> embedding;
    std::unique_ptr<Weight> positions;  // learned position embeddings, or null
    std::vector<RopeSpec> ropes;
    std::vector<Layer> layers;
    Norm final_norm;
    Linear head;
    std::function<Status()> intact;  // whether the rows of the embedding still are what was loaded; may be empty
  };

  /// `rows_max`: most tokens of one forward pass. Errors: kInsufficientMemory.
  [[nodiscard]] static Result<std::unique_ptr<Decoder>> make(Backend& backend, Parts parts, int rows_max);

  [[nodiscard]] const Parts& parts() const { return parts_; }
  [[nodiscard]] int rows_max() const { return rows_max_; }
  [[nodiscard]] KvShape kv_shape(int pages, KvPrecision precision) const;
  [[nodiscard]] Backend& backend() const { return backend_; }

  /// Computes up to rows_max tokens; `logit_rows` (indices into rows) get logits (logit_rows, vocab) in `logits`.
  /// Positions and token ids must be in range and every row's page allocated: the engine guarantees it.
  /// `state_rows` get the normalised states of the last layer (state_rows, dim) in `states`.
  /// Errors: kModelChanged: a file was changed under the model, and nothing that was computed counts.
  [[nodiscard]] Status forward(std::span<const BatchRow> rows, KvStore& kv, std::span<const std::int32_t> logit_rows,
                               std::span<float> logits, const Observer* observer = nullptr,
                               std::span<const std::int32_t> state_rows = {}, std::span<float> states = {});

  /// Whether rows first.. of the last pass were finite in every layer. What the others computed does not depend on
  /// them. Errors: kInferenceFailed with layer and place.
  [[nodiscard]] Status finite_rows(std::size_t first, std::size_t count) const;

  /// For tests of mixtures: sees a layer's routing logits (rows, experts), by checkpoint name, and may replace them.
  std::function<void(const std::string& name, std::span<float> logits)> router_probe;

 private:
  Decoder(Backend& backend, Parts parts, int rows_max)
      : backend_(backend), parts_(std::move(parts)), rows_max_(rows_max) {}
  Status allocate();
  [[nodiscard]] Status embed(std::span<const BatchRow> rows);
  /// Sets rows that are not finite to zeros and remembers the place. Row i of `x` is row of(i) of the pass.
  template<class Of>
  void check(DeviceSpan x, std::int64_t rows, const char* place, float limit, const Of& of);
  template<class Of>
  void mark(const char* place, const Of& of, std::size_t rows);
  void rope_tables(std::span<const BatchRow> rows);
  void attend(const Layer& layer, int index, std::span<const BatchRow> rows, KvStore& kv);
  void mlp(const Mlp& mlp, std::int64_t rows);
  void moe(const Moe& moe, std::int64_t rows);
  bool normalize(const Norm& norm, DeviceSpan x, DeviceSpan out);
  void route(const Moe& moe, std::int64_t rows, std::vector<float>& logits);
  void rotate(const Attention& a, DeviceSpan x, int heads, std::int64_t rows);
  [[nodiscard]] DeviceSpan scratch(const DeviceBuffer& buffer, std::int64_t rows, std::int64_t columns) const;
  void observe(const char* name, DeviceSpan values, std::int64_t rows);

  Backend& backend_;
  Parts parts_;
  int rows_max_;
  // normed_ holds what attention found as well, branch_ its queries: what was there before is not needed any more.
  DeviceBuffer stream_, normed_, branch_, key_, value_, gate_, up_, router_, picked_, expert_out_, selected_, logits_;
  std::vector<DeviceBuffer> cos_, sin_;  // one pair per rope
  std::vector<RowFault> faults_;         // of each row of the pass
  std::vector<std::uint8_t> bad_;        // what check() found last
  int layer_ = 0;                        // that is being computed
  const Observer* observer_ = nullptr;
  std::string prefix_;  // of checkpoint names: "layer_07." or ""
};

}  // namespace llorch
