// GLM-4 (0414): norms before and behind attention and MLP, biases of queries, keys and values, a part of each head that
// turns by neighbouring pairs. Source: GLM et al. 2024, "ChatGLM".
#include "arch/blocks.h"

namespace llorch::arch {
namespace glm4 {
namespace {

Status refine(const Metadata&, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for glm4");
  return {};
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, true));
  AttentionForm form;
  form.bias = true;
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
    b.mixer = make_attention(m, h, l, form);
    b.mixer_post_norm = m.norm("post_attention_norm", "post_self_attn_layernorm", h.dim);
    b.mlp_norm = m.norm("ffn_norm", "post_attention_layernorm", h.dim);
    b.feed_forward = make_fused_mlp(m, h, h.ffn_of(l), "mlp.gate_up_proj", "mlp.down_proj");
    b.mlp_post_norm = m.norm("post_ffw_norm", "post_mlp_layernorm", h.dim);
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  if (!json::find_bool(config, "attention_bias").value_or(true))
    return bad_model("config.json: 'attention_bias' false is not supported for glm4");
  return hf_common(config, "glm4.", out);
}

}  // namespace
}  // namespace glm4

extern const Architecture arch_glm4;
const Architecture arch_glm4{"glm4",           {"glm4"},      {}, glm4::refine, listed<glm4::make>,
                             made<glm4::make>, glm4::from_hf, {}};

}  // namespace llorch::arch
