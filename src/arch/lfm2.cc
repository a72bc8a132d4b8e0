// LFM2: most layers are a gated short convolution, some are grouped-query attention with norms of query and key heads;
// each is followed by a gated MLP, in the mixture behind some dense layers by experts. The last norm is called
// token_embd_norm. Source: Liquid AI 2025, "LFM2 Technical Report".
#include "arch/lfm2.h"

namespace llorch::arch {
namespace lfm2 {

Status refine(const Metadata& m, const std::string& p, Hyper& h) {
  if (h.scaling.kind != "none") return bad_model("rope scaling '{}' is not supported for {}", h.scaling.kind, h.arch);
  LLORCH_TRY(const auto taps, m.integer_in(p + "shortconv.l_cache", 2, limits::kTapsMax));
  h.recurrence.taps = static_cast<int>(taps);
  for (const int kv_heads : h.layer_kv_heads) h.recurrent.push_back(kv_heads == 0);
  return {};
}

namespace {

ShortConvolution make_convolution(PartMaker& m, const Hyper& h) {
  ShortConvolution c;
  c.channels = h.dim;
  m.tensor("shortconv.in_proj", "conv.in_proj", {h.dim, 3 * h.dim});
  c.before = m.rows("shortconv.in_proj", 0, h.dim);
  c.after = m.rows("shortconv.in_proj", h.dim, h.dim);
  c.input = m.rows("shortconv.in_proj", 2 * h.dim, h.dim);
  c.convolution.weight = m.transposed("shortconv.conv", "conv.conv", h.recurrence.taps, h.dim);
  c.convolution.taps = h.recurrence.taps;
  c.output = m.linear("shortconv.out_proj", "conv.out_proj", h.dim, h.dim);
  return c;
}

FeedForward make_feed_forward(PartMaker& m, const Hyper& h, int l) {
  if (h.experts == 0 || l < h.leading_dense)
    return make_mlp(m, h, h.ffn_of(l), {"feed_forward.w1", "feed_forward.w3", "feed_forward.w2"});
  Moe moe = make_experts(
      m, h, routing_of(h),
      {"feed_forward.gate", "feed_forward.experts.{}.w1", "feed_forward.experts.{}.w3", "feed_forward.experts.{}.w2"});
  moe.routing.normalize_eps = 1e-6f;
  make_choice_bias(m, h, moe, "feed_forward.expert_bias");
  return moe;
}

}  // namespace

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph, "model.embedding_norm", "model.embed_tokens", "token_embd_norm");
  graph.ropes.push_back(make_rope(h, false));
  AttentionForm form;
  form.norms = AttentionForm::Norms::kEachHead;
  form.hf_output = "out_proj", form.hf_query_norm = "q_layernorm", form.hf_key_norm = "k_layernorm";
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "operator_norm", h.dim);
    if (h.is_recurrent(l))
      b.mixer = make_convolution(m, h);
    else
      b.mixer = make_attention(m, h, l, form);
    b.mlp_norm = m.norm("ffn_norm", "ffn_norm", h.dim);
    b.feed_forward = make_feed_forward(m, h, l);
    graph.blocks.push_back(std::move(b));
  }
}

/// The MLP's width is two thirds of what a configuration says, stretched, and rounded up to whole blocks.
Status adjust_width(const json::object& config, const std::string& p, Metadata& out) {
  if (!json::find_bool(config, "block_auto_adjust_ff_dim").value_or(false)) return {};
  const auto width = json::find_unsigned(config, "intermediate_size"),
             block = json::find_unsigned(config, "block_multiple_of");
  if (!width || !block || *width > limits::kFeedForwardMax || *block < 1 || *block > limits::kFeedForwardMax)
    return bad_model("config.json: 'intermediate_size' or 'block_multiple_of' is missing or too large");
  std::uint64_t adjusted = 2 * *width / 3;
  if (const auto stretch = json::find_number(config, "block_ffn_dim_multiplier");
      stretch && *stretch > 0 && *stretch < 64)
    adjusted = static_cast<std::uint64_t>(*stretch * static_cast<double>(adjusted));
  out.set(p + "feed_forward_length",
          MetaValue::u32(static_cast<std::uint32_t>((adjusted + *block - 1) / *block * *block)));
  return {};
}

Status from_hf(const json::object& config, const std::string& p, Metadata& out) {
  LLORCH_OK(hf_refuse(config, {"conv_bias"}));
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(adjust_width(config, p, out));
  LLORCH_OK(hf_copy_integer(config, "conv_L_cache", p + "shortconv.l_cache", out));
  return hf_attention_layers(config, p, "full_attention", "conv", out);
}

namespace {

Status refine_dense(const Metadata& m, Hyper& h) { return refine(m, "lfm2.", h); }

Status dense_from_hf(const json::object& config, Metadata& out) { return from_hf(config, "lfm2.", out); }

}  // namespace
}  // namespace lfm2

extern const Architecture arch_lfm2;
const Architecture arch_lfm2{"lfm2",
                             {"lfm2"},
                             {"shortconv.l_cache"},
                             lfm2::refine_dense,
                             listed<lfm2::make>,
                             made<lfm2::make>,
                             lfm2::dense_from_hf,
                             {}};

}  // namespace llorch::arch
