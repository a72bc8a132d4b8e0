// ModernBERT: norms before attention and MLP, without biases; two of three layers see a window to both sides and turn
// with a base of their own; GELU by the error function times a gate. Source: Warner et al. 2024, "Smarter, Better,
// Faster, Longer".
#include "arch/encoder.h"

namespace llorch::arch {
namespace modern_bert {
namespace {

constexpr const char* kPrefix = "modern-bert.";
constexpr int kPeriod = 3;

Status refine(const Metadata& m, Hyper& h) {
  const std::string p = kPrefix;
  if (h.scaling.kind != "none") return bad_model("rope scaling '{}' is not supported for modern-bert", h.scaling.kind);
  if (m.has(p + "hidden_activation")) {
    LLORCH_TRY(const std::string activation, m.text(p + "hidden_activation"));
    if (activation != "gelu") return bad_model("'{}hidden_activation' is '{}', not gelu", p, activation);
  }
  h.sliding_rope_base = h.rope_base;
  LLORCH_OK(read_windows(m, p, kPeriod, h));
  const MetaValue* pattern = m.find(p + "attention.sliding_window_pattern");
  if (!pattern || pattern->type != MetaType::kArray) {  // the first of each group is a full one
    LLORCH_TRY(const auto period, m.integer_in(p + "attention.sliding_window_pattern", 1, limits::kLayersMax, kPeriod));
    for (int l = 0; l < h.layers; ++l) h.sliding[static_cast<std::size_t>(l)] = l % static_cast<int>(period) != 0;
  }
  return encoder::refine(m, p, h);
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  encoder::make_embedding(m, h, graph, "model.embeddings.tok_embeddings", "");
  graph.embedding_norm = m.layer_norm("token_embd_norm", "model.embeddings.norm", h.dim, false);
  graph.final_norm = m.layer_norm("output_norm", "model.final_norm", h.dim, false);
  graph.ropes = {make_rope(h, false), {h.rotated, false, rope_frequencies(h.rotated, h.sliding_rope_base), 1}};
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    if (l > 0) b.mixer_norm = m.layer_norm("attn_norm", "attn_norm", h.dim, false);
    b.mixer = encoder::sees_all(make_fused_attention(m, h, l, "attn.Wqkv", "attn.Wo"), h.window_of(l) > 0 ? 1 : 0);
    b.mlp_norm = m.layer_norm("ffn_norm", "mlp_norm", h.dim, false);
    Mlp mlp = make_fused_mlp(m, h, h.ffn_of(l), "mlp.Wi", "mlp.Wo");
    mlp.activation.kind = Activation::Kind::kGeluErfMul;
    b.feed_forward = std::move(mlp);
    graph.blocks.push_back(std::move(b));
  }
  encoder::make_classifier(m, h, graph, {"head.dense", "head.norm", false, Classifier::Activation::kGelu});
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_refuse(config, {"attention_bias", "mlp_bias", "norm_bias"}));
  if (json::find_text(config, "hidden_activation").value_or("gelu") != "gelu")
    return bad_model("config.json: 'hidden_activation' is not gelu");
  LLORCH_OK(encoder::labels_from_hf(config, p, out));
  if (const std::string pooled = json::find_text(config, "classifier_pooling").value_or("cls"); pooled == "mean")
    out.set(p + "classifier.pooling_type", MetaValue::u32(1));
  else if (pooled != "cls")
    return bad_model("config.json: 'classifier_pooling' is '{}', not cls or mean", pooled);
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_TRY(const double eps, out.number(p + "attention.layer_norm_rms_epsilon"));
  out.set(p + "attention.layer_norm_epsilon",
          MetaValue::f32(static_cast<float>(eps)));  // files of the family have both
  out.set(p + "attention.causal", MetaValue::boolean(false));
  LLORCH_OK(hf_copy_number(config, "global_rope_theta", p + "rope.freq_base", out, false));
  LLORCH_OK(hf_copy_number(config, "local_rope_theta", p + "rope.freq_base_swa", out, false));
  LLORCH_OK(hf_copy_integer(config, "local_attention", p + "attention.sliding_window", out));
  LLORCH_OK(hf_copy_integer(config, "global_attn_every_n_layers", p + "attention.sliding_window_pattern", out, false));
  if (const std::vector<bool> sliding = hf_layers(config, "sliding_attention"); !sliding.empty())
    out.set(p + "attention.sliding_window_pattern", pattern_value(sliding));
  return {};
}

}  // namespace
}  // namespace modern_bert

extern const Architecture arch_modern_bert;
const Architecture arch_modern_bert{
    "modern-bert",
    {"modernbert"},
    {"attention.causal", "classifier.pooling_type", "classifier.output_labels", "attention.sliding_window",
     "attention.sliding_window_pattern", "rope.freq_base_swa", "hidden_activation"},
    modern_bert::refine,
    listed<modern_bert::make>,
    made<modern_bert::make>,
    modern_bert::from_hf,
    {"head.dense.weight", "head.norm.weight", "decoder.bias"}};

}  // namespace llorch::arch
