// Llama 1 to 3, Mistral, TinyLlama, Mixtral: RMSNorm, rotary embedding on adjacent pairs, grouped-query attention,
// SwiGLU, in Mixtral by experts. Llama 3.1's frequency factors come as the tensor rope_freqs.weight. Sources: Touvron
// et al. 2023; Grattafiori et al. 2024; Jiang et al. 2024, "Mixtral of Experts".
#include "arch/blocks.h"

namespace llorch::arch {
namespace llama {
namespace {

constexpr const char* kPrefix = "llama.";

Status refine(const Metadata& m, Hyper& h) {
  LLORCH_OK(read_experts(m, kPrefix, h, false));
  LLORCH_OK(read_windows(m, kPrefix, 0, h));
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for llama");
  return {};
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, true));
  divide_by_rope_freqs(m, graph.ropes.front());
  AttentionForm form;
  form.permuted = true;
  const std::string moe = "block_sparse_moe.";
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
    b.mixer = make_attention(m, h, l, form);
    b.mlp_norm = m.norm("ffn_norm", "post_attention_layernorm", h.dim);
    Routing routing;
    routing.active = h.experts_active;
    if (h.experts > 0)
      b.feed_forward = make_experts(
          m, h, routing, {moe + "gate", moe + "experts.{}.w1", moe + "experts.{}.w3", moe + "experts.{}.w2"});
    else
      b.feed_forward = make_mlp(m, h, h.ffn_of(l));
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_refuse(config, {"attention_bias", "mlp_bias"}));
  LLORCH_OK(hf_copy_integer(config, "num_local_experts", p + "expert_count", out, false));
  LLORCH_OK(hf_copy_integer(config, "num_experts_per_tok", p + "expert_used_count", out, false));
  return hf_copy_integer(config, "sliding_window", p + "attention.sliding_window", out, false);
}

}  // namespace
}  // namespace llama

extern const Architecture arch_llama;
const Architecture arch_llama{
    "llama",
    {"llama", "mistral", "mixtral"},
    {"expert_count", "expert_used_count", "expert_feed_forward_length", "attention.sliding_window"},
    llama::refine,
    listed<llama::make>,
    made<llama::make>,
    llama::from_hf,
    {"rotary_emb.inv_freq"}};

}  // namespace llorch::arch
