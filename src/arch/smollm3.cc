// SmolLM3: Llama's shape; in every fourth layer nothing turns. Sources: Hugging Face 2025, "SmolLM3"; Yang et al. 2025,
// "RoPE to NoPE and Back Again".
#include "arch/blocks.h"

namespace llorch::arch {
namespace smollm3 {
namespace {

constexpr int kInterval = 4;

Status refine(const Metadata&, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for smollm3");
  return {};
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, true));
  AttentionForm form;
  form.permuted = true;
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b = make_block(m, h, l, form);
    if ((l + 1) % kInterval == 0) attention(b).rope = -1;
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(hf_refuse(config, {"attention_bias", "mlp_bias", "use_sliding_window"}));
  LLORCH_OK(hf_turned_layers(config, kInterval));
  return hf_common(config, "smollm3.", out);
}

}  // namespace
}  // namespace smollm3

extern const Architecture arch_smollm3;
const Architecture arch_smollm3{"smollm3",           {"smollm3"},      {}, smollm3::refine, listed<smollm3::make>,
                                made<smollm3::make>, smollm3::from_hf, {}};

}  // namespace llorch::arch
