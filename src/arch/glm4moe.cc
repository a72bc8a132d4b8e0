// GLM-4.5 to 4.7: behind some dense layers experts chosen by sigmoids with a bias, and one that all tokens share; a
// part of each head turns by halves; norms of query and key heads in some sizes. Source: GLM-4.5 Team 2025, "GLM-4.5".
#include "arch/blocks.h"

namespace llorch::arch {
namespace glm4moe {
namespace {

constexpr const char* kPrefix = "glm4moe.";

Status refine(const Metadata& m, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for glm4moe");
  LLORCH_OK(read_experts(m, kPrefix, h));
  h.expert_sigmoid = h.experts_normalized = true;
  LLORCH_OK(read_routing(m, kPrefix, h));
  if (!h.expert_sigmoid) return bad_model("'{}expert_gating_func' is not 2, a sigmoid", kPrefix);
  return skip_drafts(m, kPrefix, h);
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, false));
  AttentionForm form;
  form.bias = true;
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
    SoftmaxAttention a = make_attention(m, h, l, form);
    a.query_norm = m.optional_norm("attn_q_norm", "self_attn.q_norm", h.head_dim);
    a.key_norm = m.optional_norm("attn_k_norm", "self_attn.k_norm", h.head_dim);
    b.mixer = std::move(a);
    b.mlp_norm = m.norm("post_attention_norm", "post_attention_layernorm", h.dim);
    b.feed_forward = make_routed_mlp(m, h, l);
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  if (!json::find_bool(config, "attention_bias").value_or(false))
    return bad_model("config.json: 'attention_bias' false is not supported for glm4_moe");
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_copy_integer(config, "first_k_dense_replace", p + "leading_dense_block_count", out));
  return hf_routed_experts(config, p, out);
}

}  // namespace
}  // namespace glm4moe

extern const Architecture arch_glm4moe;
const Architecture arch_glm4moe{
    "glm4moe",
    {"glm4_moe"},
    {"expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_count", "expert_group_count",
     "expert_group_used_count", "expert_gating_func", "expert_weights_norm", "expert_weights_scale",
     "leading_dense_block_count", "nextn_predict_layers"},
    glm4moe::refine,
    listed<glm4moe::make>,
    made<glm4moe::make>,
    glm4moe::from_hf,
    {}};

}  // namespace llorch::arch
