// Seed-OSS: Llama's shape, rotation of halves, biases of queries, keys and values. Source: ByteDance Seed 2025,
// "Seed-OSS".
#include "arch/blocks.h"

namespace llorch::arch {
namespace seed_oss {
namespace {

Status refine(const Metadata&, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for seed_oss");
  return {};
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, false));
  AttentionForm form;
  form.bias = true;
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    graph.blocks.push_back(make_block(m, h, l, form, "post_attention_norm"));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(hf_refuse(config, {"attention_out_bias", "mlp_bias"}));
  if (!json::find_bool(config, "attention_bias").value_or(true))
    return bad_model("config.json: 'attention_bias' false is not supported for seed_oss");
  return hf_common(config, "seed_oss.", out);
}

}  // namespace
}  // namespace seed_oss

extern const Architecture arch_seed_oss;
const Architecture arch_seed_oss{"seed_oss",           {"seed_oss"},      {}, seed_oss::refine, listed<seed_oss::make>,
                                 made<seed_oss::make>, seed_oss::from_hf, {}};

}  // namespace llorch::arch
