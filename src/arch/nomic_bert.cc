// Nomic BERT: BERT with rotary embedding in the place of learned positions, and a gated MLP, without biases but those
// of norms. Source: Nussbaum et al. 2024, "Nomic Embed".
#include "arch/encoder.h"

namespace llorch::arch {
namespace nomic_bert {
namespace {

constexpr const char* kPrefix = "nomic-bert.";

Status refine(const Metadata& m, Hyper& h) {
  if (h.scaling.kind != "none") return bad_model("rope scaling '{}' is not supported for nomic-bert", h.scaling.kind);
  return encoder::refine(m, kPrefix, h);
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  encoder::make_embedding(m, h, graph, "embeddings.word_embeddings", "embeddings.token_type_embeddings");
  graph.embedding_norm = m.layer_norm("token_embd_norm", "emb_ln", h.dim, true);
  graph.ropes.push_back(make_rope(h, false));
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l, "encoder.layers.{}.");
    Block b;
    b.mixer = encoder::sees_all(make_fused_attention(m, h, l, "attn.Wqkv", "attn.out_proj"), 0);
    b.mixer_stream_norm = m.layer_norm("attn_output_norm", "norm1", h.dim, true);
    b.feed_forward = make_mlp(m, h, h.ffn_of(l), {"mlp.fc12", "mlp.fc11", "mlp.fc2"});
    b.mlp_stream_norm = m.layer_norm("layer_output_norm", "norm2", h.dim, true);
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_refuse(config, {"rotary_emb_interleaved", "rotary_emb_scale_base", "qkv_proj_bias", "mlp_fc1_bias",
                               "mlp_fc2_bias", "prenorm", "causal", "num_experts"}));
  if (json::find_number(config, "rotary_emb_fraction").value_or(1) != 1 ||
      json::find_text(config, "activation_function").value_or("swiglu") != "swiglu")
    return bad_model("config.json: rotary_emb_fraction or activation_function are not supported for nomic_bert");
  LLORCH_OK(encoder::types_from_hf(config, out));
  out.set(p + "attention.causal", MetaValue::boolean(false));
  return hf_common(config, p, out);
}

}  // namespace
}  // namespace nomic_bert

extern const Architecture arch_nomic_bert;
const Architecture arch_nomic_bert{"nomic-bert",        {"nomic_bert"},           {"attention.causal"},
                                   nomic_bert::refine,  listed<nomic_bert::make>, made<nomic_bert::make>,
                                   nomic_bert::from_hf, {"rotary_emb.inv_freq"}};

}  // namespace llorch::arch
