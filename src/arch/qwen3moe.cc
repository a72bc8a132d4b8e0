// Qwen3 (mixture of experts): the attention of dense Qwen3; in each layer a softmax over all experts chooses some,
// whose weights are then divided by their sum. Source: Yang et al. 2025, "Qwen3 Technical Report".
#include "arch/blocks.h"

namespace llorch::arch {
namespace qwen3moe {
namespace {

Status refine(const Metadata& m, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for qwen3moe");
  return read_experts(m, "qwen3moe.", h);
}

std::vector<TensorSpec> tensors(const Hyper& h) {
  std::vector<TensorSpec> list;
  add_ends(list, h);
  for (int l = 0; l < h.layers; ++l) {
    add_normed_attention(list, h, l);
    add_gain(list, block(l, "ffn_norm"), hf_block(l, "post_attention_layernorm"), h.dim);
    add_linear(list, block(l, "ffn_gate_inp"), hf_block(l, "mlp.gate"), h.dim, h.experts, false);
    add_experts(list, block(l, "ffn_gate_exps"), hf_block(l, "mlp.experts.{}.gate_proj"), h.dim, h.expert_ffn,
                h.experts);
    add_experts(list, block(l, "ffn_up_exps"), hf_block(l, "mlp.experts.{}.up_proj"), h.dim, h.expert_ffn, h.experts);
    add_experts(list, block(l, "ffn_down_exps"), hf_block(l, "mlp.experts.{}.down_proj"), h.expert_ffn, h.dim,
                h.experts);
  }
  return list;
}

Result<Graph> assemble(const Hyper& h, Builder& in) {
  Graph graph;
  LLORCH_OK(assemble_ends(h, in, graph));
  graph.ropes.push_back(make_rope(h, false));
  for (int l = 0; l < h.layers; ++l) {
    Block b;
    LLORCH_TRY(b.mixer_norm, in.norm(block(l, "attn_norm"), h.eps));
    LLORCH_TRY(b.mixer, assemble_normed_attention(h, in, l));
    LLORCH_TRY(b.mlp_norm, in.norm(block(l, "ffn_norm"), h.eps));
    Routing routing;
    routing.score = Routing::Score::kSoftmaxOfChosen;  // of all, divided by the sum of the chosen: the same
    routing.active = h.experts_active;
    LLORCH_TRY(b.feed_forward, assemble_experts(h, in, l, routing));
    graph.blocks.push_back(std::move(b));
  }
  return graph;
}

Status from_hf(const json::object& config, Metadata& out) {
  const json::array* dense = json::find_array(config, "mlp_only_layers");
  if ((dense && !dense->empty()) || json::find_unsigned(config, "decoder_sparse_step").value_or(1) != 1)
    return bad_model("config.json: layers without experts are not supported for qwen3_moe");
  if (!json::find_bool(config, "norm_topk_prob").value_or(false))
    return bad_model("config.json: norm_topk_prob false is not supported for qwen3_moe");
  if (json::find_bool(config, "use_sliding_window").value_or(false))
    return bad_model("config.json: use_sliding_window is not supported for qwen3_moe");
  if (json::find_bool(config, "attention_bias").value_or(false))
    return bad_model("config.json: attention_bias is not supported for qwen3_moe");
  LLORCH_OK(hf_common(config, "qwen3moe.", out));
  const char* count = json::find(config, "num_experts") ? "num_experts" : "num_local_experts";
  LLORCH_OK(hf_copy_integer(config, count, "qwen3moe.expert_count", out));
  LLORCH_OK(hf_copy_integer(config, "num_experts_per_tok", "qwen3moe.expert_used_count", out));
  return hf_copy_integer(config, "moe_intermediate_size", "qwen3moe.expert_feed_forward_length", out);
}

}  // namespace
}  // namespace qwen3moe

extern const Architecture arch_qwen3moe;
const Architecture arch_qwen3moe{
    "qwen3moe",        {"qwen3_moe"},          {"expert_count", "expert_used_count", "expert_feed_forward_length"},
    qwen3moe::refine,  qwen3moe::tensors,      qwen3moe::assemble,
    qwen3moe::from_hf, {"rotary_emb.inv_freq"}};

}  // namespace llorch::arch
