// Gemma 2: sliding and full layers in turns, soft caps of scores and logits. Source: Gemma Team 2024, "Gemma 2".
#include <cmath>

#include "arch/encoder.h"
#include "arch/gemma.h"

namespace llorch::arch {
namespace gemma {

Status read_caps(const Metadata& m, const std::string& p, Hyper& h) {
  LLORCH_TRY(const double scores, m.number_or(p + "attn_logit_softcapping", 0));
  LLORCH_TRY(const double logits, m.number_or(p + "final_logit_softcapping", 0));
  for (const double cap : {scores, logits})
    if (!(cap >= 0 && cap < 1e6)) return bad_model("'{}': a soft cap is {}", p, cap);
  h.score_cap = static_cast<float>(scores), h.logit_cap = static_cast<float>(logits);
  return {};
}

Status refine(const Metadata& m, const std::string& p, const Form& form, Hyper& h) {
  if (h.scaling.kind != "none" && h.scaling.kind != "linear")
    return bad_model("rope scaling '{}' is not supported for {}", h.scaling.kind, h.arch);
  LLORCH_OK(read_windows(m, p, form.period, h));
  LLORCH_OK(read_scales(m, p, h));
  if (h.attention_scale == 0 && h.layers == form.large_layers)
    h.attention_scale = static_cast<float>(std::sqrt(static_cast<double>(h.heads) / h.dim));
  h.embedding_scale = std::sqrt(static_cast<float>(h.dim));
  return read_caps(m, p, h);
}

void make(const Hyper& h, PartMaker& m, Graph& graph, const Form& form) {
  m.gain = HfValue::kPlusOne;
  if (form.encoder) {
    encoder::make_embedding(m, h, graph, "model.embed_tokens", "");
    graph.final_norm = m.norm("output_norm", "model.norm", h.dim);
  } else {
    make_ends(m, h, graph);
    graph.logit_cap = h.logit_cap;
  }
  graph.ropes = {make_rope(h, false), {h.rotated, false, rope_frequencies(h.rotated, h.sliding_rope_base), 1}};
  AttentionForm of_heads;
  if (form.head_norms) of_heads.norms = AttentionForm::Norms::kEachHead;
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
    SoftmaxAttention a = make_attention(m, h, l, of_heads);
    a.softcap = h.score_cap, a.both_ways = form.encoder;
    if (a.window > 0) a.rope = 1;
    b.mixer = std::move(a);
    b.mixer_post_norm = m.norm("post_attention_norm", "post_attention_layernorm", h.dim);
    b.mlp_norm = m.norm("ffn_norm", "pre_feedforward_layernorm", h.dim);
    Mlp mlp = make_mlp(m, h, h.ffn_of(l));
    mlp.activation.kind = Activation::Kind::kGeluMul;
    b.feed_forward = std::move(mlp);
    b.mlp_post_norm = m.norm("post_ffw_norm", "post_feedforward_layernorm", h.dim);
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, const std::string& p, Metadata& out) {
  LLORCH_OK(hf_refuse(config, {"attention_bias"}));
  if (json::find_text(config, "hidden_activation").value_or("gelu_pytorch_tanh") != "gelu_pytorch_tanh")
    return bad_model("config.json: 'hidden_activation' is not gelu_pytorch_tanh");
  LLORCH_OK(hf_copy_number(config, "rope_local_base_freq", p + "rope.freq_base_swa", out, false));
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_copy_number(config, "attn_logit_softcapping", p + "attn_logit_softcapping", out, false));
  LLORCH_OK(hf_copy_number(config, "final_logit_softcapping", p + "final_logit_softcapping", out, false));
  LLORCH_OK(hf_copy_integer(config, "sliding_window", p + "attention.sliding_window", out, false));
  if (const std::vector<bool> sliding = hf_layers(config, "sliding_attention"); !sliding.empty())
    out.set(p + "attention.sliding_window_pattern", pattern_value(sliding));
  const auto scalar = json::find_number(config, "query_pre_attn_scalar");
  if (scalar && *scalar > 0) out.set(p + "attention.scale", MetaValue::f32(static_cast<float>(1 / std::sqrt(*scalar))));
  return {};
}

}  // namespace gemma

namespace gemma2 {
namespace {

constexpr const char* kPrefix = "gemma2.";
constexpr gemma::Form kForm{2, 46, false};

Status refine(const Metadata& m, Hyper& h) {
  h.sliding_rope_base = h.rope_base;
  return gemma::refine(m, kPrefix, kForm, h);
}
void make(const Hyper& h, PartMaker& m, Graph& graph) { gemma::make(h, m, graph, kForm); }
Status from_hf(const json::object& config, Metadata& out) { return gemma::from_hf(config, kPrefix, out); }

}  // namespace
}  // namespace gemma2

extern const Architecture arch_gemma2;
const Architecture arch_gemma2{"gemma2",
                               {"gemma2"},
                               {"attention.sliding_window", "attention.sliding_window_pattern", "attention.scale",
                                "attn_logit_softcapping", "final_logit_softcapping"},
                               gemma2::refine,
                               listed<gemma2::make>,
                               made<gemma2::make>,
                               gemma2::from_hf,
                               {}};

}  // namespace llorch::arch
