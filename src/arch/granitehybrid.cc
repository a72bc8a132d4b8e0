// Granite 4: Mamba 2 in most layers, attention in some, in which nothing turns; behind each a mixture with a shared
// expert, or that expert alone. Sources: IBM 2025, "Granite 4.0"; Dao and Gu 2024, "Transformers are SSMs".
#include "arch/granite.h"

namespace llorch::arch {
namespace granitehybrid {
namespace {

constexpr const char* kPrefix = "granitehybrid.";

Status refine(const Metadata& m, Hyper& h) {
  LLORCH_OK(granite::refine(m, kPrefix, h));
  LLORCH_OK(read_experts(m, kPrefix, h, false));
  LLORCH_OK(read_routing(m, kPrefix, h));
  LLORCH_OK(read_recurrence(m, kPrefix, h));
  for (const int kv_heads : h.layer_kv_heads) h.recurrent.push_back(kv_heads == 0);
  return {};
}

/// Gates and ups are stored in one tensor.
MlpNames shared_names(const Hyper& h, int width) {
  const std::string both = "shared_mlp.input_linear";
  return {{both, rows_of_each(h.dim, 2 * width, 0, width, 1)},
          {both, rows_of_each(h.dim, 2 * width, width, width, 1)},
          "shared_mlp.output_linear"};
}

FeedForward make_feed_forward(PartMaker& m, const Hyper& h, int l) {
  if (h.experts == 0) return make_mlp(m, h, h.ffn_of(l), shared_names(h, h.ffn_of(l)));
  Routing routing;
  routing.active = h.experts_active;
  Moe moe = make_experts(m, h, routing, granite::experts(h));
  if (h.shared_ffn > 0) moe.shared = make_mlp(m, h, h.shared_ffn, shared_names(h, h.shared_ffn), "_shexp");
  return moe;
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  granite::make_ends(m, h, graph);
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
    if (h.is_recurrent(l)) {
      b.mixer = make_mamba(m, h, "mamba.");
    } else {
      b.mixer = make_attention(m, h, l, granite::attention_form());
      if (!h.scaling.finetuned) attention(b).rope = -1;
    }
    b.mlp_norm = m.norm("ffn_norm", "post_attention_layernorm", h.dim);
    b.feed_forward = make_feed_forward(m, h, l);
    b.mixer_scale = b.mlp_scale = h.residual_scale;
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_refuse(config, {"mamba_proj_bias"}));
  if (!json::find_bool(config, "mamba_conv_bias").value_or(true))
    return bad_model("config.json: 'mamba_conv_bias' false is not supported for granitemoehybrid");
  LLORCH_OK(granite::from_hf(config, p, out));
  LLORCH_OK(granite::experts_from_hf(config, p, out));
  LLORCH_OK(hf_attention_layers(config, p, "attention", "mamba", out));
  LLORCH_OK(hf_copy_integer(config, "mamba_d_conv", p + "ssm.conv_kernel", out));
  LLORCH_OK(hf_copy_integer(config, "mamba_d_state", p + "ssm.state_size", out));
  LLORCH_OK(hf_copy_integer(config, "mamba_n_groups", p + "ssm.group_count", out));
  LLORCH_OK(hf_copy_integer(config, "mamba_n_heads", p + "ssm.time_step_rank", out));
  LLORCH_OK(hf_inner_size(config, "mamba_n_heads", "mamba_d_head", p, out));
  const bool dense = json::find_unsigned(config, "num_local_experts").value_or(0) == 0;
  LLORCH_OK(hf_copy_integer(config, "shared_intermediate_size",
                            p + (dense ? "feed_forward_length" : "expert_shared_feed_forward_length"), out));
  const std::string positions = json::find_text(config, "position_embedding_type").value_or("rope");
  if (positions != "rope" && positions != "nope")
    return bad_model("config.json: position_embedding_type '{}' is not supported", positions);
  out.set(p + "rope.scaling.finetuned", MetaValue::boolean(positions == "rope"));
  return {};
}

}  // namespace
}  // namespace granitehybrid

extern const Architecture arch_granitehybrid;
const Architecture arch_granitehybrid{
    "granitehybrid",
    {"granitemoehybrid"},
    {"embedding_scale", "attention.scale", "residual_scale", "logit_scale", "expert_count", "expert_used_count",
     "expert_feed_forward_length", "expert_shared_feed_forward_length", "ssm.conv_kernel", "ssm.state_size",
     "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size"},
    granitehybrid::refine,
    listed<granitehybrid::make>,
    made<granitehybrid::make>,
    granitehybrid::from_hf,
    {}};

}  // namespace llorch::arch
