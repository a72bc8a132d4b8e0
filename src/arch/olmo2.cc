// OLMo 2 and 3: norms behind attention and MLP, none before; norms over all query and key heads together. OLMo 3 has
// three sliding layers for each full one, and YaRN in full ones alone. Sources: OLMo et al. 2024, "2 OLMo 2 Furious";
// OLMo et al. 2025, "Olmo 3".
#include "arch/blocks.h"

namespace llorch::arch {
namespace olmo2 {
namespace {

constexpr const char* kPrefix = "olmo2.";

Status refine(const Metadata& m, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for olmo2");
  h.sliding_rope_base = h.rope_base;
  return read_windows(m, kPrefix, 4, h);
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes = {make_rope(h, false), {h.rotated, false, rope_frequencies(h.rotated, h.sliding_rope_base), 1}};
  AttentionForm form;
  form.norms = AttentionForm::Norms::kAllHeads;
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer = make_attention(m, h, l, form);
    if (h.window_of(l) > 0) attention(b).rope = 1;
    b.mixer_post_norm = m.norm("post_attention_norm", "post_attention_layernorm", h.dim);
    b.feed_forward = make_mlp(m, h, h.ffn_of(l));
    b.mlp_post_norm = m.norm("post_ffw_norm", "post_feedforward_layernorm", h.dim);
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_refuse(config, {"attention_bias"}));
  LLORCH_OK(hf_common(config, p, out));
  if (json::find_text(config, "model_type") != "olmo3") return {};
  LLORCH_OK(hf_copy_integer(config, "sliding_window", p + "attention.sliding_window", out));
  out.set(p + "attention.sliding_window_pattern", pattern_value(hf_layers(config, "sliding_attention")));
  return {};
}

}  // namespace
}  // namespace olmo2

extern const Architecture arch_olmo2;
const Architecture arch_olmo2{"olmo2",
                              {"olmo2", "olmo3"},
                              {"attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa"},
                              olmo2::refine,
                              listed<olmo2::make>,
                              made<olmo2::make>,
                              olmo2::from_hf,
                              {}};

}  // namespace llorch::arch
