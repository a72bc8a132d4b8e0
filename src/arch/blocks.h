// Pieces that several families put together in the same way: tensor lists and assembly of embedding, attention, gated
// MLP and head.
#pragma once

#include "arch/architecture.h"
#include "arch/hf_config.h"
#include "arch/part_maker.h"

namespace llorch::arch {

[[nodiscard]] inline std::string block(int layer, std::string_view rest) {
  return fmt::format("blk.{}.{}", layer, rest);
}
[[nodiscard]] inline std::string hf_block(int layer, std::string_view rest) {
  return fmt::format("model.layers.{}.{}", layer, rest);
}

/// Adds "<name>.weight" [in, out] and, with_bias, "<name>.bias" [out].
void add_linear(std::vector<TensorSpec>& list, const std::string& name, const std::string& hf, int in, int out,
                bool with_bias, HfLayout layout = HfLayout::kSame, int heads = 0);
/// Adds "<name>.weight" [in, out, experts]; Hugging Face has a tensor for each, whose number stands for {} in `hf`.
void add_experts(std::vector<TensorSpec>& list, const std::string& name, const std::string& hf, int in, int out,
                 int experts);
void add_gain(std::vector<TensorSpec>& list, const std::string& name, const std::string& hf, int n);

/// token_embd, output_norm and output (optional) under the names of the Llama lineage.
void add_ends(std::vector<TensorSpec>& list, const Hyper& h);
/// attn_norm, separate q, k, v, output.
void add_attention(std::vector<TensorSpec>& list, const Hyper& h, int layer, bool qkv_bias, bool output_bias,
                   HfLayout qk_layout = HfLayout::kSame);
/// The same with norms of each query and key head (attn_q_norm, attn_k_norm).
void add_normed_attention(std::vector<TensorSpec>& list, const Hyper& h, int layer);
/// ffn_norm, gate, up, down.
void add_gated_mlp(std::vector<TensorSpec>& list, const Hyper& h, int layer);

[[nodiscard]] Status assemble_ends(const Hyper& h, Builder& in, Graph& graph);
/// Separate projections; scale 1/sqrt(head_dim), rope 0.
[[nodiscard]] Result<SoftmaxAttention> assemble_attention(const Hyper& h, Builder& in, int layer);
/// The same with norms of each query and key head.
[[nodiscard]] Result<SoftmaxAttention> assemble_normed_attention(const Hyper& h, Builder& in, int layer);
/// q, k, v as row ranges of one tensor "<stem>".
[[nodiscard]] Result<SoftmaxAttention> assemble_fused_attention(const Hyper& h, Builder& in, int layer);
[[nodiscard]] Result<Mlp> assemble_gated_mlp(Builder& in, int layer);
/// Router and gated experts of one layer.
[[nodiscard]] Result<Moe> assemble_experts(const Hyper& h, Builder& in, int layer, const Routing& routing);

[[nodiscard]] inline SoftmaxAttention& attention(Block& block) { return std::get<SoftmaxAttention>(block.mixer); }

/// The block of the Llama lineage: norm, separate attention, norm, gated MLP.
[[nodiscard]] Result<Block> assemble_block(const Hyper& h, Builder& in, int layer);

/// expert_count, expert_used_count, expert_feed_forward_length (else feed_forward_length).
[[nodiscard]] Status read_experts(const Metadata& metadata, const std::string& prefix, Hyper& h, bool required = true);

/// Frequencies by the scaling kinds none, linear and yarn.
[[nodiscard]] RopeSpec make_rope(const Hyper& h, bool adjacent);

// ---- the same, made by a PartMaker

/// Where the parts of attention are stored, and which it has.
struct AttentionForm {
  enum class Norms { kNone, kEachHead, kAllHeads };
  Norms norms = Norms::kNone;  // of queries and keys
  bool bias = false, output_bias = false;
  bool keys = true;               // else another layer's are used
  bool value_may_be_key = false;  // where the file has no values, the keys are
  bool gated = false;             // the query's tensor has of each head its query rows, then rows of a gate
  bool permuted = false;          // Hugging Face's rows are reordered to pairs
  std::string_view hf = "self_attn.", hf_query = "q_proj", hf_key = "k_proj", hf_value = "v_proj", hf_output = "o_proj",
                   hf_query_norm = "q_norm", hf_key_norm = "k_norm";
};
struct MlpNames {
  HfTensor gate = "mlp.gate_proj", up = "mlp.up_proj", down = "mlp.down_proj";
};
/// Of experts: one for all ({} stands for the expert), or stacked.
struct ExpertNames {
  HfTensor router = "mlp.gate", gate = "mlp.experts.{}.gate_proj", up = "mlp.experts.{}.up_proj",
           down = "mlp.experts.{}.down_proj";
};

/// Embedding, last norm and head; the file may have no head of its own.
void make_ends(PartMaker& m, const Hyper& h, Graph& graph, std::string_view hf_norm = "model.norm",
               std::string_view hf_embedding = "model.embed_tokens", std::string_view norm = "output_norm");
/// Separate projections, as the layer's numbers of heads say; rope 0, the window of the layer.
[[nodiscard]] SoftmaxAttention make_attention(PartMaker& m, const Hyper& h, int layer, const AttentionForm& form = {});
/// One tensor attn_qkv of queries, keys and values; the same otherwise.
[[nodiscard]] SoftmaxAttention make_fused_attention(PartMaker& m, const Hyper& h, int layer, std::string_view hf_all,
                                                    std::string_view hf_output);
/// `suffix`: of GGUF's names.
[[nodiscard]] Mlp make_mlp(PartMaker& m, const Hyper& h, int ffn, const MlpNames& hf = {},
                           std::string_view suffix = "");
/// Gate and up as one tensor ffn_up, gate rows first.
[[nodiscard]] Mlp make_fused_mlp(PartMaker& m, const Hyper& h, int ffn, std::string_view hf_both,
                                 std::string_view hf_down);
/// The block of the Llama lineage: norm, attention, norm, gated MLP, both added times the residual scale.
[[nodiscard]] Block make_block(PartMaker& m, const Hyper& h, int layer, const AttentionForm& form,
                               std::string_view mlp_norm = "ffn_norm");
/// Mamba 2 with its parts under "ssm_".
[[nodiscard]] Mamba2 make_mamba(PartMaker& m, const Hyper& h, const std::string& hf);
/// Router and gated experts; without `gate` experts have none.
[[nodiscard]] Moe make_experts(PartMaker& m, const Hyper& h, const Routing& routing, const ExpertNames& hf = {});
void make_choice_bias(PartMaker& m, const Hyper& h, Moe& moe, std::string_view hf);
/// An MLP, or experts under the names of DeepSeek's and GLM's files, by the layer.
[[nodiscard]] FeedForward make_routed_mlp(PartMaker& m, const Hyper& h, int layer);
/// Divides frequencies by the values of rope_freqs.weight, where it is there.
void divide_by_rope_freqs(PartMaker& m, RopeSpec& rope);
/// Of `count` stored matrices (columns, rows_stored), of 3 dimensions or below each other in 2: rows first..first+rows
/// of each.
[[nodiscard]] HfRuns rows_of_each(int columns, int rows_stored, int first, int rows, int count, bool stacked = false);
/// Experts whose gates and ups are stored in one tensor, gates first.
[[nodiscard]] ExpertNames fused_experts(const Hyper& h, const HfTensor& router, const std::string& both,
                                        const std::string& down);

/// Embedding, attention, residual and logit scales, where the keys are there.
[[nodiscard]] Status read_scales(const Metadata& metadata, const std::string& prefix, Hyper& h);
/// Sizes under "<prefix>ssm.".
[[nodiscard]] Status read_recurrence(const Metadata& metadata, const std::string& prefix, Hyper& h);
/// leading_dense_block_count, interleave_moe_layer_step, expert_shared_*, expert_weights_*, expert_group_*,
/// expert_gating_func.
[[nodiscard]] Status read_routing(const Metadata& metadata, const std::string& prefix, Hyper& h);
[[nodiscard]] Routing routing_of(const Hyper& h);
/// rope.scaling.yarn_log_multiplier.
[[nodiscard]] Status read_log_multiplier(const Metadata& metadata, const std::string& prefix, Hyper& h);
/// nextn_predict_layers: as many of the last layers are left out, in all that was read so far.
[[nodiscard]] Status skip_drafts(const Metadata& metadata, const std::string& prefix, Hyper& h);
/// attention.sliding_window and its pattern: an array, a period, or `period` where the file has neither; the last layer
/// of each group is global, of period 0 none.
[[nodiscard]] Status read_windows(const Metadata& metadata, const std::string& prefix, int period, Hyper& h);

}  // namespace llorch::arch
