// gpt-oss: mixture of experts with top-k routing and clamped SwiGLU, attention sinks, alternating sliding-window and
// full layers, YaRN, biases everywhere, MXFP4 experts. Source: OpenAI 2025, "gpt-oss-120b & gpt-oss-20b Model Card";
// requirements E-12.
#include "arch/blocks.h"

namespace llorch::arch {
namespace gpt_oss {
namespace {

constexpr float kLimit = 7, kAlpha = 1.702f;

Status refine(const Metadata& m, Hyper& h) {
  const std::string p = "gpt-oss.";
  LLORCH_OK(read_experts(m, p, h));
  LLORCH_TRY(const auto window, m.integer_in(p + "attention.sliding_window", 1, 1u << 24));
  h.window = static_cast<int>(window);
  h.scaling.round_range = false;
  if (h.scaling.kind != "yarn" && h.scaling.kind != "none")
    return bad_model("rope scaling '{}' is not supported for gpt-oss", h.scaling.kind);
  return {};
}

std::vector<TensorSpec> tensors(const Hyper& h) {
  std::vector<TensorSpec> list;
  add_ends(list, h);
  const auto dim = static_cast<std::uint64_t>(h.dim), ffn = static_cast<std::uint64_t>(h.expert_ffn),
             experts = static_cast<std::uint64_t>(h.experts);
  for (int l = 0; l < h.layers; ++l) {
    add_attention(list, h, l, true, true);
    list.push_back({block(l, "attn_sinks.weight"),
                    {static_cast<std::uint64_t>(h.heads)},
                    hf_block(l, "self_attn.sinks"),
                    SynthKind::kBias});
    add_gain(list, block(l, "post_attention_norm"), hf_block(l, "post_attention_layernorm"), h.dim);
    add_linear(list, block(l, "ffn_gate_inp"), hf_block(l, "mlp.router"), h.dim, h.experts, true);
    const std::string both = hf_block(l, "mlp.experts.gate_up_proj"), down = hf_block(l, "mlp.experts.down_proj");
    list.push_back({block(l, "ffn_gate_exps.weight"),
                    {dim, ffn, experts},
                    both,
                    SynthKind::kMatrix,
                    true,
                    HfLayout::kGateOfPairs});
    list.push_back(
        {block(l, "ffn_up_exps.weight"), {dim, ffn, experts}, both, SynthKind::kMatrix, true, HfLayout::kUpOfPairs});
    list.push_back({block(l, "ffn_down_exps.weight"),
                    {ffn, dim, experts},
                    down,
                    SynthKind::kMatrix,
                    true,
                    HfLayout::kTransposedEach});
    list.push_back(
        {block(l, "ffn_gate_exps.bias"), {ffn, experts}, both + "_bias", SynthKind::kBias, true, HfLayout::kGateBias});
    list.push_back(
        {block(l, "ffn_up_exps.bias"), {ffn, experts}, both + "_bias", SynthKind::kBias, true, HfLayout::kUpBias});
    list.push_back({block(l, "ffn_down_exps.bias"), {dim, experts}, down + "_bias", SynthKind::kBias});
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
    LLORCH_TRY(b.mixer, assemble_attention(h, in, l));
    LLORCH_TRY(attention(b).sinks, in.vector(block(l, "attn_sinks.weight")));
    attention(b).window = l % 2 == 0 ? h.window : 0;
    LLORCH_TRY(b.mlp_norm, in.norm(block(l, "post_attention_norm"), h.eps));
    Routing routing;
    routing.active = h.experts_active;
    LLORCH_TRY(Moe moe, assemble_experts(h, in, l, routing));
    moe.activation = {Activation::Kind::kSwigluClamped, kLimit, kAlpha};
    b.feed_forward = std::move(moe);
    graph.blocks.push_back(std::move(b));
  }
  return graph;
}

Status from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(hf_common(config, "gpt-oss.", out));
  LLORCH_OK(hf_copy_integer(config, "intermediate_size", "gpt-oss.expert_feed_forward_length", out));
  LLORCH_OK(hf_copy_integer(config, "num_local_experts", "gpt-oss.expert_count", out));
  LLORCH_OK(hf_copy_integer(config, "num_experts_per_tok", "gpt-oss.expert_used_count", out));
  const std::vector<bool> sliding = hf_layers(config, "sliding_attention");
  for (std::size_t l = 0; l < sliding.size(); ++l)
    if (sliding[l] != (l % 2 == 0))
      return bad_model("config.json: 'layer_types' of layer {} is not supported for gpt_oss", l);
  return hf_copy_integer(config, "sliding_window", "gpt-oss.attention.sliding_window", out);
}

}  // namespace
}  // namespace gpt_oss

extern const Architecture arch_gpt_oss;
const Architecture arch_gpt_oss{
    "gpt-oss",
    {"gpt_oss"},
    {"expert_count", "expert_used_count", "expert_feed_forward_length", "attention.sliding_window"},
    gpt_oss::refine,
    gpt_oss::tensors,
    gpt_oss::assemble,
    gpt_oss::from_hf,
    {"rotary_emb.inv_freq"}};

}  // namespace llorch::arch
