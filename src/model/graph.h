// A model as data: blocks of parts, and the tensors that they are made from. A family (arch/) puts it together; a
// device and the walk (forward/) compute it; whoever wants to know what it needs reads it.
//
//   block = norm?, mixer, norm?, scale, added, norm of all?;  then  norm?, feed-forward, norm?, scale, added, norm of
//   all?
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "model/classifier.h"
#include "model/mixer/gated_delta_net.h"
#include "model/mixer/latent_attention.h"
#include "model/mixer/mamba2.h"
#include "model/mixer/short_convolution.h"
#include "model/mixer/softmax_attention.h"
#include "model/parts.h"
#include "model/rope.h"
#include "model/state.h"

namespace llorch {

/// std::monostate: a block without that part.
using Mixer = std::variant<std::monostate, SoftmaxAttention, LatentAttention, GatedDeltaNet, ShortConvolution, Mamba2>;
using FeedForward = std::variant<std::monostate, Mlp, Moe>;

/// What a block adds at its end: norm(projection(gelu(gate x) * its part of LayerInputs)).
struct LayerInput {
  Linear gate, projection;  // dim -> width -> dim
  Norm norm;
};

/// Of each token an input for every block beside the stream: its row of a table times sqrt(width), and the projected
/// embedding divided by sqrt(dim), normalised block by block; their sum by sqrt(2).
struct LayerInputs {
  TensorId table;
  Linear projection;  // dim -> blocks * width
  Norm norm;          // of width
  int width = 0;
};

struct Block {
  std::optional<Norm> mixer_norm, mixer_post_norm;
  Mixer mixer;
  std::optional<Norm> mlp_norm, mlp_post_norm;
  FeedForward feed_forward;
  std::optional<Norm> mixer_stream_norm, mlp_stream_norm;  // of the stream behind the addition
  float mixer_scale = 1, mlp_scale = 1;                    // of what is added to the stream
  /// The feed-forward sees the stream as the mixer did; without a norm of its own, the mixer's.
  bool parallel = false;
  std::optional<LayerInput> layer_input;
  float output_scale = 1;  // of the stream behind the block
};

/// Some of a tensor, as the model uses it.
struct TensorUse {
  enum class As {
    kTable,
    kMatrix,
    kVector,
    kTransposed,  // floats, columns become rows
    kConstant,    // no tensor: `count` floats `value`
  };
  As as = As::kMatrix;
  std::string tensor;
  std::uint64_t first = 0, count = 0;  // rows, of a vector values; count 0: all
  int parts = 1;                       // of a matrix: as many matrices, one behind the other
  std::uint64_t run = 0, step = 0;     // run > 0: `run` rows (values) of every `step`, beginning at `first`
  float value = 0;
};

struct Graph {
  int dim = 0, vocab = 0;
  int context = 0;                       // positions that can be computed
  bool whole_prompts = false;            // a prompt must be computed in one step (encoders)
  TensorId embedding, positions, types;  // types: a row is added to every token, by its type
  int token_types = 0;                   // rows of `types`
  float embedding_scale = 1;
  std::optional<Norm> embedding_norm;
  std::optional<LayerInputs> layer_inputs;
  std::vector<RopeSpec> ropes;
  std::vector<Block> blocks;
  std::optional<Norm> final_norm;
  Linear head;                           // absent: no logits (encoders)
  std::optional<Classifier> classifier;  // it scores texts by their states
  float logit_scale = 1, logit_cap = 0;

  std::vector<TensorUse> tensors;  // in the order in which they are loaded

  /// What the mixers remember of a sequence, and which entry of its kind each block uses.
  [[nodiscard]] std::vector<CacheLayer> cache_layers() const;
  /// The windows of page groups: 0 first, which is there always, then others, ascending.
  [[nodiscard]] std::vector<int> cache_windows() const;
  [[nodiscard]] std::vector<SlotLayer> slot_layers() const;
  [[nodiscard]] std::vector<int> cache_indices() const;
};

}  // namespace llorch
