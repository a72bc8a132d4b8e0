// ERNIE 4.5 (mixture of experts): behind some dense layers a softmax over all experts, with a bias for the choice
// alone, and experts that all tokens share. Source: Baidu 2025, "ERNIE 4.5 Technical Report".
#include "arch/blocks.h"

namespace llorch::arch {
namespace ernie4_5_moe {
namespace {

constexpr const char* kPrefix = "ernie4_5-moe.";

Status refine(const Metadata& m, Hyper& h) {
  const std::string p = kPrefix;
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for ernie4_5-moe");
  LLORCH_OK(read_experts(m, p, h));
  h.experts_normalized = true;
  LLORCH_OK(read_routing(m, p, h));
  // The file's width of the shared experts is not always theirs: converters derive it from the number of KV heads.
  LLORCH_TRY(const auto shared, m.integer_in(p + "expert_shared_count", 0, limits::kExpertsMax, 0));
  if (shared * static_cast<std::uint64_t>(h.expert_ffn) > limits::kFeedForwardMax)
    return bad_model("{} shared experts of {} are too wide", shared, h.expert_ffn);
  h.shared_ffn = static_cast<int>(shared) * h.expert_ffn;
  return {};
}

FeedForward make_feed_forward(PartMaker& m, const Hyper& h, int l) {
  if (!h.has_experts(l)) return make_mlp(m, h, h.ffn_of(l));
  Moe moe = make_experts(m, h, routing_of(h));
  moe.choice_bias = m.vector("exp_probs_b.bias", "mlp.moe_statics.e_score_correction_bias", {h.experts, 1});
  const std::string shared = "mlp.shared_experts.";
  if (h.shared_ffn > 0)
    moe.shared =
        make_mlp(m, h, h.shared_ffn, {shared + "gate_proj", shared + "up_proj", shared + "down_proj"}, "_shexp");
  return moe;
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, true));
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
    b.mixer = make_attention(m, h, l);
    b.mlp_norm = m.norm("ffn_norm", "post_attention_layernorm", h.dim);
    b.feed_forward = make_feed_forward(m, h, l);
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_refuse(config, {"use_bias"}));
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_copy_integer(config, "moe_num_experts", p + "expert_count", out));
  LLORCH_OK(hf_copy_integer(config, "moe_k", p + "expert_used_count", out));
  LLORCH_OK(hf_copy_integer(config, "moe_intermediate_size", p + "expert_feed_forward_length", out));
  LLORCH_OK(hf_copy_integer(config, "moe_num_shared_experts", p + "expert_shared_count", out, false));
  LLORCH_OK(hf_copy_integer(config, "moe_layer_interval", p + "interleave_moe_layer_step", out, false));
  LLORCH_OK(hf_copy_integer(config, "moe_layer_start_index", p + "leading_dense_block_count", out, false));
  const auto last = json::find_number(config, "moe_layer_end_index"),
             layers = json::find_number(config, "num_hidden_layers");
  if (last && layers && *last != -1 && *last != *layers - 1)
    return bad_model("config.json: 'moe_layer_end_index' {} is not the last layer", *last);
  return {};
}

}  // namespace
}  // namespace ernie4_5_moe

extern const Architecture arch_ernie4_5_moe;
const Architecture arch_ernie4_5_moe{
    "ernie4_5-moe",
    {"ernie4_5_moe"},
    {"expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_count",
     "expert_shared_feed_forward_length", "interleave_moe_layer_step", "leading_dense_block_count"},
    ernie4_5_moe::refine,
    listed<ernie4_5_moe::make>,
    made<ernie4_5_moe::make>,
    ernie4_5_moe::from_hf,
    {}};

}  // namespace llorch::arch
