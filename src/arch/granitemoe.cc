// Granite 3 (mixture of experts): Granite with a softmax over the chosen experts. Source: IBM 2024, "Granite 3.0
// Language Models".
#include "arch/granite.h"

namespace llorch::arch {
namespace granitemoe {
namespace {

constexpr const char* kPrefix = "granitemoe.";

Status refine(const Metadata& m, Hyper& h) {
  LLORCH_OK(read_experts(m, kPrefix, h));
  return granite::refine(m, kPrefix, h);
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  granite::make_ends(m, h, graph);
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
    b.mixer = make_attention(m, h, l, granite::attention_form());
    b.mlp_norm = m.norm("ffn_norm", "post_attention_layernorm", h.dim);
    Routing routing;
    routing.active = h.experts_active;
    b.feed_forward = make_experts(m, h, routing, granite::experts(h));
    b.mixer_scale = b.mlp_scale = h.residual_scale;
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(granite::experts_from_hf(config, kPrefix, out));
  return granite::from_hf(config, kPrefix, out);
}

}  // namespace
}  // namespace granitemoe

extern const Architecture arch_granitemoe;
const Architecture arch_granitemoe{
    "granitemoe",
    {"granitemoe"},
    {"embedding_scale", "attention.scale", "residual_scale", "logit_scale", "expert_count", "expert_used_count"},
    granitemoe::refine,
    listed<granitemoe::make>,
    made<granitemoe::make>,
    granitemoe::from_hf,
    {}};

}  // namespace llorch::arch
