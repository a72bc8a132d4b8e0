// Hunyuan (dense): Llama's shape, rotation of halves, and norms of query and key heads behind it. Source: Tencent 2025,
// "Hunyuan-7B".
#include "arch/blocks.h"

namespace llorch::arch {
namespace hunyuan_dense {
namespace {

Status refine(const Metadata&, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for hunyuan-dense");
  return {};
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, false));
  AttentionForm form;
  form.norms = AttentionForm::Norms::kEachHead;
  form.hf_query_norm = "query_layernorm", form.hf_key_norm = "key_layernorm";
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b = make_block(m, h, l, form);
    attention(b).norm_after_rope = true;
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(hf_refuse(config, {"attention_bias", "use_cla"}));
  return hf_common(config, "hunyuan-dense.", out);
}

}  // namespace
}  // namespace hunyuan_dense

extern const Architecture arch_hunyuan_dense;
const Architecture arch_hunyuan_dense{
    "hunyuan-dense",           {"hunyuan_v1_dense"},   {}, hunyuan_dense::refine, listed<hunyuan_dense::make>,
    made<hunyuan_dense::make>, hunyuan_dense::from_hf, {}};

}  // namespace llorch::arch
