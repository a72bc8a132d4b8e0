// Phi-3: Llama's shape with one tensor for query, key and value and one for gate and up; sliding window; LongRoPE,
// whose per-dimension factors come as tensors, short ones within the original context and long ones beyond. Source:
// Abdin et al. 2024; Ding et al. 2024.
//
// The choice between short and long is made once, by the context of the run, so that cached keys never change meaning.
#include <cmath>

#include "arch/blocks.h"

namespace llorch::arch {
namespace phi3 {
namespace {

Status refine(const Metadata& m, Hyper& h) {
  LLORCH_TRY(const auto window, m.integer_in("phi3.attention.sliding_window", 0, 1u << 24, 0));
  h.window = static_cast<int>(window);
  if (h.scaling.kind == "yarn" || h.scaling.kind == "linear")
    return bad_model("rope scaling '{}' is not supported for phi3", h.scaling.kind);
  return {};
}

std::vector<TensorSpec> tensors(const Hyper& h) {
  std::vector<TensorSpec> list;
  add_ends(list, h);
  const auto half = static_cast<std::uint64_t>(h.rotated / 2);
  list.push_back({"rope_factors_short.weight", {half}, "", SynthKind::kFactors, false});
  list.push_back({"rope_factors_long.weight", {half}, "", SynthKind::kFactors, false});
  for (int l = 0; l < h.layers; ++l) {
    add_gain(list, block(l, "attn_norm"), hf_block(l, "input_layernorm"), h.dim);
    add_linear(list, block(l, "attn_qkv"), hf_block(l, "self_attn.qkv_proj"), h.dim,
               h.query_width() + 2 * h.key_width(), false);
    add_linear(list, block(l, "attn_output"), hf_block(l, "self_attn.o_proj"), h.query_width(), h.dim, false);
    add_gain(list, block(l, "ffn_norm"), hf_block(l, "post_attention_layernorm"), h.dim);
    add_linear(list, block(l, "ffn_up"), hf_block(l, "mlp.gate_up_proj"), h.dim, 2 * h.ffn, false);
    add_linear(list, block(l, "ffn_down"), hf_block(l, "mlp.down_proj"), h.ffn, h.dim, false);
  }
  return list;
}

Status apply_long_rope(const Hyper& h, Builder& in, RopeSpec& rope) {
  LLORCH_TRY(const std::vector<float> near, in.values("rope_factors_short.weight"));
  LLORCH_TRY(const std::vector<float> far, in.values("rope_factors_long.weight"));
  const std::vector<float>& factors = h.run_context > h.scaling.original_context ? far : near;
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(factors[i] > 0)) return bad_model("a LongRoPE factor is {}, factors must be positive", factors[i]);
    rope.frequencies[i] /= static_cast<double>(factors[i]);
  }
  const double stretch = h.context / h.scaling.original_context;
  const double rule = stretch <= 1 ? 1 : std::sqrt(1 + std::log(stretch) / std::log(h.scaling.original_context));
  rope.magnitude = h.scaling.attention_factor > 0 ? h.scaling.attention_factor : rule;
  return {};
}

Result<Graph> assemble(const Hyper& h, Builder& in) {
  Graph graph;
  LLORCH_OK(assemble_ends(h, in, graph));
  RopeSpec rope = make_rope(h, false);
  if (in.has("rope_factors_short.weight") || in.has("rope_factors_long.weight"))
    LLORCH_OK(apply_long_rope(h, in, rope));
  graph.ropes.push_back(std::move(rope));
  for (int l = 0; l < h.layers; ++l) {
    Block b;
    LLORCH_TRY(b.mixer_norm, in.norm(block(l, "attn_norm"), h.eps));
    LLORCH_TRY(b.mixer, assemble_fused_attention(h, in, l));
    attention(b).window = h.window;
    LLORCH_TRY(b.mlp_norm, in.norm(block(l, "ffn_norm"), h.eps));
    Mlp mlp;
    const auto ffn = static_cast<std::uint64_t>(h.ffn);
    LLORCH_TRY(mlp.gate, in.linear_rows(block(l, "ffn_up"), 0, ffn));
    LLORCH_TRY(mlp.up, in.linear_rows(block(l, "ffn_up"), ffn, ffn));
    LLORCH_TRY(mlp.down, in.linear(block(l, "ffn_down")));
    b.feed_forward = std::move(mlp);
    graph.blocks.push_back(std::move(b));
  }
  return graph;
}

Status from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(hf_common(config, "phi3.", out));
  LLORCH_OK(hf_copy_integer(config, "sliding_window", "phi3.attention.sliding_window", out, false));
  LLORCH_OK(hf_copy_integer(config, "original_max_position_embeddings", "phi3.rope.scaling.original_context_length",
                            out, false));
  return {};
}

}  // namespace
}  // namespace phi3

extern const Architecture arch_phi3;
const Architecture arch_phi3{"phi3",         {"phi3"},      {"attention.sliding_window"}, phi3::refine, phi3::tensors,
                             phi3::assemble, phi3::from_hf, {"rotary_emb.inv_freq"}};

}  // namespace llorch::arch
