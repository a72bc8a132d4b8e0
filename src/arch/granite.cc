// Granite 3 (dense): Llama's shape with multipliers of embeddings, scores, branches and logits. Source: IBM 2024,
// "Granite 3.0 Language Models".
#include "arch/granite.h"

namespace llorch::arch {
namespace granite {

Status refine(const Metadata& m, const std::string& p, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for {}", h.arch);
  return read_scales(m, p, h);
}

void make_ends(PartMaker& m, const Hyper& h, Graph& graph) {
  arch::make_ends(m, h, graph);
  graph.logit_scale = 1 / h.logit_scale;
  graph.ropes.push_back(make_rope(h, true));
}

AttentionForm attention_form() {
  AttentionForm form;
  form.permuted = true;
  return form;
}

Status from_hf(const json::object& config, const std::string& p, Metadata& out) {
  LLORCH_OK(hf_refuse(config, {"attention_bias", "mlp_bias"}));
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_copy_number(config, "embedding_multiplier", p + "embedding_scale", out));
  LLORCH_OK(hf_copy_number(config, "attention_multiplier", p + "attention.scale", out));
  LLORCH_OK(hf_copy_number(config, "residual_multiplier", p + "residual_scale", out));
  return hf_copy_number(config, "logits_scaling", p + "logit_scale", out);
}

Status experts_from_hf(const json::object& config, const std::string& p, Metadata& out) {
  LLORCH_OK(hf_copy_integer(config, "num_local_experts", p + "expert_count", out));
  return hf_copy_integer(config, "num_experts_per_tok", p + "expert_used_count", out);
}

ExpertNames experts(const Hyper& h) {
  const std::string moe = "block_sparse_moe.";
  return fused_experts(h, moe + "router.layer", moe + "input_linear.weight", moe + "output_linear.weight");
}

namespace {

Status refine_dense(const Metadata& m, Hyper& h) { return refine(m, "granite.", h); }

void make_dense(const Hyper& h, PartMaker& m, Graph& graph) {
  granite::make_ends(m, h, graph);
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    graph.blocks.push_back(make_block(m, h, l, attention_form()));
  }
}

Status dense_from_hf(const json::object& config, Metadata& out) { return from_hf(config, "granite.", out); }

}  // namespace
}  // namespace granite

extern const Architecture arch_granite;
const Architecture arch_granite{"granite",
                                {"granite"},
                                {"embedding_scale", "attention.scale", "residual_scale", "logit_scale"},
                                granite::refine_dense,
                                listed<granite::make_dense>,
                                made<granite::make_dense>,
                                granite::dense_from_hf,
                                {}};

}  // namespace llorch::arch
