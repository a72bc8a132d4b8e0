// Qwen2 and Qwen2.5: Llama's shape with biases on the query, key and value projections and rotary embedding on halves.
// Source: Yang et al. 2024, "Qwen2 Technical Report".
#include "arch/blocks.h"

namespace llorch::arch {
namespace qwen2 {
namespace {

Status refine(const Metadata&, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for qwen2");
  return {};
}

std::vector<TensorSpec> tensors(const Hyper& h) {
  std::vector<TensorSpec> list;
  add_ends(list, h);
  for (int l = 0; l < h.layers; ++l) {
    add_attention(list, h, l, true, false);
    add_gated_mlp(list, h, l);
  }
  return list;
}

Result<Graph> assemble(const Hyper& h, Builder& in) {
  Graph graph;
  LLORCH_OK(assemble_ends(h, in, graph));
  graph.ropes.push_back(make_rope(h, false));
  for (int l = 0; l < h.layers; ++l) {
    LLORCH_TRY(Block b, assemble_block(h, in, l));
    graph.blocks.push_back(std::move(b));
  }
  return graph;
}

Status from_hf(const json::object& config, Metadata& out) {
  if (json::find_bool(config, "use_sliding_window").value_or(false))
    return bad_model("config.json: use_sliding_window is not supported for qwen2");
  return hf_common(config, "qwen2.", out);
}

}  // namespace
}  // namespace qwen2

extern const Architecture arch_qwen2;
const Architecture arch_qwen2{
    "qwen2", {"qwen2"}, {}, qwen2::refine, qwen2::tensors, qwen2::assemble, qwen2::from_hf, {"rotary_emb.inv_freq"}};

}  // namespace llorch::arch
