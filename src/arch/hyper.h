// Hyper-parameters of a model, read from metadata and bounded before anything is computed from them.
//
// Keys are those of GGUF, prefixed by the architecture's name. A key under that prefix which nobody here understands is
// refused by name: it may change the maths.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/metadata.h"

namespace llorch::arch {

/// GGUF's pooling_type of a model that scores texts.
inline constexpr std::uint32_t kRankPooling = 4;

struct RopeScaling {
  std::string kind = "none";  // none, linear, yarn, longrope
  double factor = 1;
  double original_context = 0;
  double beta_fast = 32, beta_slow = 1;
  double attention_factor = 0;  // 0: the rule of the kind
  double log_multiplier = 0;    // YaRN: scores grow instead, where a family says so; then cos and sin do not
  bool finetuned = true;        // some files say by false that nothing turns
  bool round_range = true;      // YaRN: ramp ends rounded to whole dimensions
};

/// Sizes of a recurrent mixer and its convolution.
struct RecurrentSizes {
  int taps = 0, state = 0, groups = 0, heads = 0, inner = 0;
  [[nodiscard]] int head_dim() const { return inner / heads; }
  [[nodiscard]] int channels() const { return inner + 2 * groups * state; }
};

/// Sizes of latent attention.
struct LatentSizes {
  int query_rank = 0, rank = 0, key = 0, value = 0;  // query_rank 0: none; key: plain and turning part
};

struct Hyper {
  std::string arch;
  int context = 0, dim = 0, layers = 0, ffn = 0, vocab = 0;
  int heads = 0, kv_heads = 0, head_dim = 0, value_dim = 0;
  std::vector<int> layer_kv_heads, layer_ffn;  // of each layer
  std::vector<bool> recurrent;                 // layers that are no attention; empty: none is
  std::vector<bool> sliding;                   // layers with a window; empty: all, where there is one
  std::vector<bool> unturned;                  // layers without rotation; empty: none
  bool single_parts = false;                   // a layer is a mixer or a feed-forward (nemotron)
  float eps = 1e-5f;
  double rope_base = 10000;
  int rotated = 0;
  RopeScaling scaling;
  double sliding_rope_base = 10000;
  int sliding_head_dim = 0, sliding_rotated = 0;
  double query_growth = 0;  // with the logarithm of the position
  int window = 0;
  int experts = 0, experts_active = 0, expert_ffn = 0, shared_ffn = 0;
  int leading_dense = 0;    // layers before the first with experts
  int expert_interval = 1;  // of those behind, every so many has them
  int expert_groups = 1, expert_groups_active = 1;
  bool expert_sigmoid = false, experts_normalized = false;
  float expert_scale = 1;
  float score_cap = 0, logit_cap = 0;  // 0: none
  int shared_kv_layers = 0;            // at the end, without keys of their own
  int layer_input = 0;                 // width of what each layer gets beside the stream; 0: nothing
  int token_types = 0;
  int labels = 0;                // of a classification head; 0: there is none
  bool classifies_mean = false;  // of all states, not of the first
  int skipped_layers = 0;        // at the end, for drafts: not computed
  float embedding_scale = 1, attention_scale = 0, residual_scale = 1, logit_scale = 1;  // attention 0: the usual
  RecurrentSizes recurrence;
  LatentSizes latent;
  int run_context = 0;  // positions that this run will use at most; LongRoPE chooses its factors by it

  [[nodiscard]] bool is_recurrent(int layer) const { return at(recurrent, layer, false); }
  [[nodiscard]] bool is_unturned(int layer) const { return at(unturned, layer, false); }
  [[nodiscard]] int window_of(int layer) const { return at(sliding, layer, true) ? window : 0; }
  [[nodiscard]] bool has_experts(int layer) const {
    return experts > 0 && layer >= leading_dense && (layer + 1) % expert_interval == 0;
  }
  [[nodiscard]] int kv_heads_of(int layer) const { return layer_kv_heads[static_cast<std::size_t>(layer)]; }
  [[nodiscard]] int ffn_of(int layer) const { return layer_ffn[static_cast<std::size_t>(layer)]; }
  [[nodiscard]] int query_width() const { return heads * head_dim; }
  [[nodiscard]] int key_width() const { return kv_heads * head_dim; }

 private:
  [[nodiscard]] static bool at(const std::vector<bool>& of, int layer, bool otherwise) {
    return of.empty() ? otherwise : of[static_cast<std::size_t>(layer)];
  }
};

/// A number for all layers, or an array with one for each: each within low..high. Errors name the key.
[[nodiscard]] Result<std::vector<int>> read_each(const Metadata& metadata, const std::string& key, int layers,
                                                 std::uint64_t low, std::uint64_t high,
                                                 std::optional<std::uint64_t> otherwise = {});
/// An array of booleans, one for each layer; empty where the key is absent.
[[nodiscard]] Result<std::vector<bool>> read_pattern(const Metadata& metadata, const std::string& key, int layers);

/// Reads what all families have. `extra`: further keys (without prefix) that the family understands.
/// Errors: kModelLoadFailed for a missing, mistyped, out-of-range or unknown key.
[[nodiscard]] Result<Hyper> read_hyper(const Metadata& metadata, std::string_view arch,
                                       const std::vector<std::string_view>& extra);

}  // namespace llorch::arch
