// Command R7B and Command A: attention and MLP beside each other behind one LayerNorm without bias; three sliding
// layers with rotation, then a full one without; logits times a scale. Source: Cohere 2025, "Command A".
#include "arch/blocks.h"

namespace llorch::arch {
namespace cohere2 {
namespace {

constexpr const char* kPrefix = "cohere2.";
constexpr int kInterval = 4;

Status refine(const Metadata& m, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for cohere2");
  LLORCH_OK(read_scales(m, kPrefix, h));
  return read_windows(m, kPrefix, kInterval, h);
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  graph.embedding = m.table("token_embd", "model.embed_tokens", h.dim, h.vocab);
  graph.final_norm = m.layer_norm("output_norm", "model.norm", h.dim, false);
  graph.head = m.head("lm_head", h.dim, h.vocab);
  graph.logit_scale = h.logit_scale;
  graph.ropes.push_back(make_rope(h, true));
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.parallel = true;
    b.mixer_norm = m.layer_norm("attn_norm", "input_layernorm", h.dim, false);
    b.mixer = make_attention(m, h, l);
    if (h.window_of(l) == 0) attention(b).rope = -1;
    b.feed_forward = make_mlp(m, h, h.ffn_of(l));
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_refuse(config, {"attention_bias", "use_qk_norm"}));
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_copy_number(config, "logit_scale", p + "logit_scale", out));
  if (const std::vector<bool> sliding = hf_layers(config, "sliding_attention"); !sliding.empty())
    out.set(p + "attention.sliding_window_pattern", pattern_value(sliding));
  return hf_copy_integer(config, "sliding_window", p + "attention.sliding_window", out);
}

}  // namespace
}  // namespace cohere2

extern const Architecture arch_cohere2;
const Architecture arch_cohere2{"cohere2",
                                {"cohere2"},
                                {"logit_scale", "attention.sliding_window", "attention.sliding_window_pattern"},
                                cohere2::refine,
                                listed<cohere2::make>,
                                made<cohere2::make>,
                                cohere2::from_hf,
                                {}};

}  // namespace llorch::arch
