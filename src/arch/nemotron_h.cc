// Nemotron-H: each layer is one part, Mamba 2, attention in which nothing turns, or an MLP whose rectifier is squared.
// Sources: NVIDIA 2025, "Nemotron-H"; So et al. 2021, "Primer", for the rectifier.
#include "arch/nemotron_h.h"

namespace llorch::arch {
namespace nemotron_h {

Status refine(const Metadata& m, const std::string& p, Hyper& h) {
  LLORCH_OK(read_recurrence(m, p, h));
  h.single_parts = true;
  for (int l = 0; l < h.layers; ++l) {
    if (h.kv_heads_of(l) > 0 && h.ffn_of(l) > 0)
      return bad_model("layer {} has '{}attention.head_count_kv' and '{}feed_forward_length'", l, p, p);
    h.recurrent.push_back(h.kv_heads_of(l) == 0 && h.ffn_of(l) == 0);
  }
  return {};
}

namespace {

Mlp make_squared_mlp(PartMaker& m, const Hyper& h, int ffn, const std::string& hf, const std::string& suffix) {
  Mlp mlp;
  mlp.activation.kind = Activation::Kind::kReluSquared;
  mlp.up = m.linear("ffn_up" + suffix, hf + "up_proj", h.dim, ffn);
  mlp.down = m.linear("ffn_down" + suffix, hf + "down_proj", ffn, h.dim);
  return mlp;
}

FeedForward make_feed_forward(PartMaker& m, const Hyper& h, int l) {
  if (h.experts == 0) return make_squared_mlp(m, h, h.ffn_of(l), "mixer.", "");
  Moe moe =
      make_experts(m, h, routing_of(h), {"mixer.gate", "", "mixer.experts.{}.up_proj", "mixer.experts.{}.down_proj"});
  moe.activation.kind = Activation::Kind::kReluSquared;
  make_choice_bias(m, h, moe, "mixer.gate.e_score_correction_bias");
  if (h.shared_ffn > 0) moe.shared = make_squared_mlp(m, h, h.shared_ffn, "mixer.shared_experts.", "_shexp");
  return moe;
}

}  // namespace

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph, "backbone.norm_f", "backbone.embeddings");
  AttentionForm form;
  form.hf = "mixer.";
  form.permuted = true;  // though nothing turns
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l, "backbone.layers.{}.");
    Block b;
    const Norm norm = m.norm("attn_norm", "norm", h.dim);
    if (h.kv_heads_of(l) > 0) {
      b.mixer_norm = norm, b.mixer = make_attention(m, h, l, form);
      attention(b).rope = -1;
    } else if (h.ffn_of(l) > 0) {
      b.mlp_norm = norm, b.feed_forward = make_feed_forward(m, h, l);
    } else {
      b.mixer_norm = norm, b.mixer = make_mamba(m, h, "mixer.");
    }
    graph.blocks.push_back(std::move(b));
  }
}

bool has_experts(const json::object& config) {
  return json::find_text(config, "hybrid_override_pattern").value_or("").find('E') != std::string::npos;
}

Status from_hf(const json::object& config, const std::string& p, Metadata& out) {
  LLORCH_OK(hf_refuse(
      config, {"attention_bias", "mlp_bias", "use_bias", "mamba_proj_bias", "sliding_window", "moe_latent_size"}));
  if (json::find_text(config, "mlp_hidden_act").value_or("relu2") != "relu2" ||
      !json::find_bool(config, "use_conv_bias").value_or(true))
    return bad_model("config.json: only mlp_hidden_act relu2 and use_conv_bias true are supported for nemotron_h");
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_copy_integer(config, "conv_kernel", p + "ssm.conv_kernel", out));
  LLORCH_OK(hf_copy_integer(config, "ssm_state_size", p + "ssm.state_size", out));
  LLORCH_OK(hf_copy_integer(config, "n_groups", p + "ssm.group_count", out));
  LLORCH_OK(hf_copy_integer(config, "mamba_num_heads", p + "ssm.time_step_rank", out));
  LLORCH_OK(hf_inner_size(config, "mamba_num_heads", "mamba_head_dim", p, out));
  LLORCH_TRY(const auto kv_heads, out.integer_in(p + "attention.head_count_kv", 1, limits::kHeadsMax));
  const bool experts = has_experts(config);
  const char* width = experts ? "moe_intermediate_size" : "intermediate_size";
  const auto ffn = json::find_unsigned(config, width);
  if (!ffn || *ffn > limits::kFeedForwardMax) return bad_model("config.json: '{}' is missing or too large", width);
  MetaValue::Integers each_kv, each_ffn;
  for (const char kind : json::find_text(config, "hybrid_override_pattern").value_or("")) {
    if (kind != 'M' && kind != '*' && kind != (experts ? 'E' : '-'))
      return bad_model("config.json: 'hybrid_override_pattern' has a layer '{}', which is not supported", kind);
    each_kv.push_back(kind == '*' ? static_cast<std::int64_t>(kv_heads) : 0);
    each_ffn.push_back(kind == 'E' || kind == '-' ? static_cast<std::int64_t>(*ffn) : 0);
  }
  out.set(p + "attention.head_count_kv", MetaValue::i32s(std::move(each_kv)));
  out.set(p + "feed_forward_length", MetaValue::i32s(std::move(each_ffn)));
  return {};
}

namespace {

Status refine_dense(const Metadata& m, Hyper& h) { return refine(m, "nemotron_h.", h); }
Status dense_from_hf(const json::object& config, Metadata& out) { return from_hf(config, "nemotron_h.", out); }
bool is_dense(const json::object& config) { return !has_experts(config); }

}  // namespace
}  // namespace nemotron_h

extern const Architecture arch_nemotron_h;
const Architecture arch_nemotron_h{
    "nemotron_h",
    {"nemotron_h"},
    {"ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size"},
    nemotron_h::refine_dense,
    listed<nemotron_h::make>,
    made<nemotron_h::make>,
    nemotron_h::dense_from_hf,
    {},
    nemotron_h::is_dense};

}  // namespace llorch::arch
