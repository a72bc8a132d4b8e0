// EXAONE 4: norms behind attention and MLP, none before; norms of query and key heads. The large form, known by its 64
// layers, has three sliding layers for each full one, in which nothing turns. Source: LG AI Research 2025,
// "EXAONE 4.0".
#include "arch/blocks.h"

namespace llorch::arch {
namespace exaone4 {
namespace {

constexpr const char* kPrefix = "exaone4.";
constexpr int kLargeLayers = 64;

Status refine(const Metadata& m, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for exaone4");
  LLORCH_OK(read_windows(m, kPrefix, 4, h));
  if (h.layers != kLargeLayers) h.window = 0;
  return {};
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, false));
  divide_by_rope_freqs(m, graph.ropes.front());
  AttentionForm form;
  form.norms = AttentionForm::Norms::kEachHead;
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer = make_attention(m, h, l, form);
    if (h.window > 0 && h.window_of(l) == 0) attention(b).rope = -1;
    b.mixer_post_norm = m.norm("post_attention_norm", "post_attention_layernorm", h.dim);
    b.feed_forward = make_mlp(m, h, h.ffn_of(l));
    b.mlp_post_norm = m.norm("post_ffw_norm", "post_feedforward_layernorm", h.dim);
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_copy_integer(config, "sliding_window", p + "attention.sliding_window", out, false));
  const std::vector<bool> sliding = hf_layers(config, "sliding_attention");
  for (std::size_t l = 0; l < sliding.size(); ++l)
    if (sliding[l] != (sliding.size() == kLargeLayers && (l + 1) % 4 != 0))
      return bad_model("config.json: 'layer_types' {} of layer {} is not supported for exaone4",
                       sliding[l] ? "sliding_attention" : "full_attention", l);
  return {};
}

}  // namespace
}  // namespace exaone4

extern const Architecture arch_exaone4;
const Architecture arch_exaone4{"exaone4",
                                {"exaone4"},
                                {"attention.sliding_window", "attention.sliding_window_pattern"},
                                exaone4::refine,
                                listed<exaone4::make>,
                                made<exaone4::make>,
                                exaone4::from_hf,
                                {}};

}  // namespace llorch::arch
