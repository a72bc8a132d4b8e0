// Qwen3 (dense): Llama's shape with RMSNorm on each query and key head before the rotary embedding, which turns halves.
// Source: Yang et al. 2025, "Qwen3 Technical Report".
#include "arch/blocks.h"

namespace llorch::arch {
namespace qwen3 {
namespace {

Status refine(const Metadata&, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for qwen3");
  return {};
}

std::vector<TensorSpec> tensors(const Hyper& h) {
  std::vector<TensorSpec> list;
  add_ends(list, h);
  for (int l = 0; l < h.layers; ++l) {
    add_normed_attention(list, h, l);
    add_gated_mlp(list, h, l);
  }
  return list;
}

Result<Graph> assemble(const Hyper& h, Builder& in) {
  Graph graph;
  LLORCH_OK(assemble_ends(h, in, graph));
  graph.ropes.push_back(make_rope(h, false));
  for (int l = 0; l < h.layers; ++l) {
    Block b;
    LLORCH_TRY(b.mixer_norm, in.norm(block(l, "attn_norm"), h.eps));
    LLORCH_TRY(b.mixer, assemble_normed_attention(h, in, l));
    LLORCH_TRY(b.mlp_norm, in.norm(block(l, "ffn_norm"), h.eps));
    LLORCH_TRY(b.feed_forward, assemble_gated_mlp(in, l));
    graph.blocks.push_back(std::move(b));
  }
  return graph;
}

Status from_hf(const json::object& config, Metadata& out) {
  if (json::find_bool(config, "use_sliding_window").value_or(false))
    return bad_model("config.json: use_sliding_window is not supported for qwen3");
  if (json::find_bool(config, "attention_bias").value_or(false))
    return bad_model("config.json: attention_bias is not supported for qwen3");
  return hf_common(config, "qwen3.", out);
}

}  // namespace
}  // namespace qwen3

extern const Architecture arch_qwen3;
const Architecture arch_qwen3{
    "qwen3", {"qwen3"}, {}, qwen3::refine, qwen3::tensors, qwen3::assemble, qwen3::from_hf, {"rotary_emb.inv_freq"}};

}  // namespace llorch::arch
