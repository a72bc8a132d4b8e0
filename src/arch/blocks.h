// Pieces that several families put together in the same way: tensor lists and assembly of embedding, attention, gated
// MLP and head.
#pragma once

#include "arch/architecture.h"

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

/// expert_count, expert_used_count, expert_feed_forward_length.
[[nodiscard]] Status read_experts(const Metadata& metadata, const std::string& prefix, Hyper& h);

/// Frequencies by the scaling kinds none, linear and yarn.
[[nodiscard]] RopeSpec make_rope(const Hyper& h, bool adjacent);

/// The keys that all Llama-like configurations share: sizes, heads, norm epsilon, rotary base and scaling.
[[nodiscard]] Status hf_common(const json::object& config, std::string_view prefix, Metadata& out);
[[nodiscard]] Status hf_copy_integer(const json::object& config, std::string_view from, std::string to, Metadata& out,
                                     bool required = true);

}  // namespace llorch::arch
