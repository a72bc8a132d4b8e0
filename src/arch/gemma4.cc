// Gemma 4: sliding and full layers whose heads differ in width and number; scores without a scale, values normalised;
// the last layers use keys and values of earlier ones; in some sizes an input for each layer beside the stream, or
// experts beside the MLP. Source: Gemma Team 2026, "Gemma 4".
#include <cmath>

#include "arch/gemma.h"

namespace llorch::arch {
namespace gemma4 {
namespace {

constexpr const char* kPrefix = "gemma4.";

/// The last earlier layer of the same kind that has keys of its own; -1: there is none.
int source_of(const Hyper& h, int layer) {
  for (int l = h.layers - h.shared_kv_layers - 1; l >= 0; --l)
    if (h.sliding[static_cast<std::size_t>(l)] == h.sliding[static_cast<std::size_t>(layer)]) return l;
  return -1;
}

Status refine_sliding(const Metadata& m, const std::string& p, Hyper& h) {
  LLORCH_OK(read_windows(m, p, 0, h));
  if (!m.has(p + "attention.sliding_window_pattern"))
    return bad_model("metadata key '{}attention.sliding_window_pattern' is missing", p);
  const auto otherwise = static_cast<std::uint64_t>(h.head_dim);
  LLORCH_TRY(const auto key, m.integer_in(p + "attention.key_length_swa", 1, limits::kHeadDimMax, otherwise));
  LLORCH_TRY(const auto value, m.integer_in(p + "attention.value_length_swa", 1, limits::kHeadDimMax, otherwise));
  LLORCH_TRY(const auto rotated, m.integer_in(p + "rope.dimension_count_swa", 2, std::max<std::uint64_t>(key, 2), key));
  if (key != value || rotated % 2 != 0 || rotated > key)
    return bad_model("sliding heads of {} and {} with {} turning values are not supported", key, value, rotated);
  h.sliding_head_dim = static_cast<int>(key), h.sliding_rotated = static_cast<int>(rotated);
  return {};
}

Status refine(const Metadata& m, Hyper& h) {
  const std::string p = kPrefix;
  if (h.scaling.kind != "none") return bad_model("rope scaling '{}' is not supported for gemma4", h.scaling.kind);
  LLORCH_OK(refine_sliding(m, p, h));
  LLORCH_TRY(const auto shared,
             m.integer_in(p + "attention.shared_kv_layers", 0, static_cast<std::uint64_t>(h.layers) - 1, 0));
  h.shared_kv_layers = static_cast<int>(shared);
  for (int l = h.layers - h.shared_kv_layers; l < h.layers; ++l) {
    const int source = source_of(h, l);
    if (source < 0 || h.kv_heads_of(source) != h.kv_heads_of(l))
      return bad_model("layer {} has no earlier layer whose keys it could use", l);
  }
  LLORCH_TRY(const auto input, m.integer_in(p + "embedding_length_per_layer_input", 0, limits::kHeadDimMax, 0));
  h.layer_input = static_cast<int>(input);
  LLORCH_OK(read_experts(m, p, h, false));
  h.attention_scale = 1, h.embedding_scale = std::sqrt(static_cast<float>(h.dim));
  return gemma::read_caps(m, p, h);
}

SoftmaxAttention make_heads(PartMaker& m, const Hyper& full, int l) {
  Hyper h = full;
  const bool sliding = h.sliding[static_cast<std::size_t>(l)];
  if (sliding) h.head_dim = h.sliding_head_dim;
  AttentionForm form;
  form.norms = AttentionForm::Norms::kEachHead;
  form.value_may_be_key = true;
  form.keys = l < h.layers - h.shared_kv_layers;
  SoftmaxAttention a = make_attention(m, h, l, form);
  a.rope = sliding ? 1 : 0;
  if (form.keys) {
    a.value_norm = m.plain_norm(h.head_dim);
    return a;
  }
  a.cache_of = source_of(h, l);
  const int width = a.kv_heads * h.head_dim;  // some files have keys all the same
  m.unused("attn_k", "self_attn.k_proj", {h.dim, width}), m.unused("attn_v", "self_attn.v_proj", {h.dim, width});
  m.unused("attn_k_norm", "self_attn.k_norm", {h.head_dim});
  return a;
}

Mlp make_gelu_mlp(PartMaker& m, const Hyper& h, int l) {
  Mlp mlp = make_mlp(m, h, h.ffn_of(l));
  mlp.activation.kind = Activation::Kind::kGeluMul;
  return mlp;
}

/// An MLP and experts, each between norms of its own; the router has one too.
Moe make_mixture(PartMaker& m, const Hyper& h, int l) {
  Moe moe;
  moe.routing.active = h.experts_active;
  moe.activation.kind = Activation::Kind::kGeluMul;
  moe.router = m.linear("ffn_gate_inp", "router.proj", h.dim, h.experts);
  moe.router_norm = Norm{m.vector("ffn_gate_inp.scale", "router.scale", {h.dim}, SynthKind::kGain), {}, h.eps};
  moe.router_scale = 1 / std::sqrt(static_cast<float>(h.dim));
  m.stacked("ffn_gate_up_exps", "experts.gate_up_proj", h.dim, 2 * h.expert_ffn, h.experts);
  moe.gate = m.rows_of_experts("ffn_gate_up_exps", 0, h.expert_ffn, h.experts);
  moe.up = m.rows_of_experts("ffn_gate_up_exps", h.expert_ffn, h.expert_ffn, h.experts);
  moe.down = m.experts("ffn_down_exps", "experts.down_proj", h.expert_ffn, h.dim, h.experts);
  moe.expert_scale = m.vector("ffn_down_exps.scale", "router.per_expert_scale", {h.experts}, SynthKind::kGain);
  moe.input_norm = m.norm("pre_ffw_norm_2", "pre_feedforward_layernorm_2", h.dim);
  moe.output_norm = m.norm("post_ffw_norm_2", "post_feedforward_layernorm_2", h.dim);
  moe.shared = make_gelu_mlp(m, h, l);
  moe.shared_input_norm = m.norm("ffn_norm", "pre_feedforward_layernorm", h.dim);
  moe.shared_output_norm = m.norm("post_ffw_norm_1", "post_feedforward_layernorm_1", h.dim);
  return moe;
}

Block make_layer(PartMaker& m, const Hyper& h, int l) {
  Block b;
  b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
  b.mixer = make_heads(m, h, l);
  b.mixer_post_norm = m.norm("post_attention_norm", "post_attention_layernorm", h.dim);
  if (h.experts > 0) {
    b.feed_forward = make_mixture(m, h, l);
  } else {
    b.mlp_norm = m.norm("ffn_norm", "pre_feedforward_layernorm", h.dim);
    b.feed_forward = make_gelu_mlp(m, h, l);
  }
  b.mlp_post_norm = m.norm("post_ffw_norm", "post_feedforward_layernorm", h.dim);
  if (h.layer_input > 0)
    b.layer_input = LayerInput{m.linear("inp_gate", "per_layer_input_gate", h.dim, h.layer_input),
                               m.linear("proj", "per_layer_projection", h.layer_input, h.dim),
                               m.norm("post_norm", "post_per_layer_input_norm", h.dim)};
  const std::vector<float> scale = m.values("layer_output_scale.weight", "layer_scalar", {1}, true);
  if (!scale.empty()) b.output_scale = scale.front();
  return b;
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.logit_cap = h.logit_cap;
  graph.ropes = {make_rope(h, false),
                 {h.sliding_rotated, false, rope_frequencies(h.sliding_rotated, h.sliding_rope_base), 1}};
  divide_by_rope_freqs(m, graph.ropes.front());
  if (h.layer_input > 0) {
    const int width = h.layers * h.layer_input;
    graph.layer_inputs =
        LayerInputs{m.table("per_layer_token_embd", "model.embed_tokens_per_layer", width, h.vocab),
                    m.linear("per_layer_model_proj", "model.per_layer_model_projection", h.dim, width),
                    m.norm("per_layer_proj_norm", "model.per_layer_projection_norm", h.layer_input), h.layer_input};
  }
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    graph.blocks.push_back(make_layer(m, h, l));
  }
}

/// Heads of full layers, and widths of the layers that share keys.
Status layers_from_hf(const json::object& config, const std::string& p, Metadata& out) {
  const std::vector<bool> sliding = hf_layers(config, "sliding_attention");
  if (sliding.empty()) return bad_model("config.json: 'layer_types' is missing");
  out.set(p + "attention.sliding_window_pattern", pattern_value(sliding));
  const auto heads = json::find_unsigned(config, "num_key_value_heads"),
             ffn = json::find_unsigned(config, "intermediate_size");
  if (!heads || !ffn || *heads > limits::kHeadsMax || *ffn > limits::kFeedForwardMax)
    return bad_model("config.json: 'num_key_value_heads' or 'intermediate_size' is missing or too large");
  const std::uint64_t of_full = json::find_unsigned(config, "num_global_key_value_heads").value_or(*heads);
  const bool wide = json::find_bool(config, "use_double_wide_mlp").value_or(false);
  const std::uint64_t shared = json::find_unsigned(config, "num_kv_shared_layers").value_or(0);
  MetaValue::Integers each_heads, each_ffn;
  for (std::size_t l = 0; l < sliding.size(); ++l) {
    each_heads.push_back(static_cast<std::int64_t>(sliding[l] ? *heads : std::min(of_full, limits::kHeadsMax + 1)));
    each_ffn.push_back(static_cast<std::int64_t>(wide && l + shared >= sliding.size() ? 2 * *ffn : *ffn));
  }
  out.set(p + "attention.head_count_kv", MetaValue::i32s(std::move(each_heads)));
  out.set(p + "feed_forward_length", MetaValue::i32s(std::move(each_ffn)));
  return {};
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_refuse(config, {"use_bidirectional_attention"}));
  const auto vocab = json::find_unsigned(config, "vocab_size");
  if (json::find_unsigned(config, "vocab_size_per_layer_input").value_or(vocab.value_or(0)) != vocab.value_or(0))
    return bad_model("config.json: 'vocab_size_per_layer_input' is not the vocabulary's size");
  LLORCH_OK(gemma::from_hf(config, p, out));
  LLORCH_OK(hf_copy_integer(config, "head_dim", p + "attention.key_length_swa", out));
  LLORCH_OK(hf_copy_integer(config, "head_dim", p + "attention.value_length_swa", out));
  for (const char* key : {"attention.key_length", "attention.value_length"})
    LLORCH_OK(hf_copy_integer(config, "global_head_dim", p + key, out));
  LLORCH_OK(hf_copy_integer(config, "num_kv_shared_layers", p + "attention.shared_kv_layers", out, false));
  LLORCH_OK(hf_copy_integer(config, "hidden_size_per_layer_input", p + "embedding_length_per_layer_input", out, false));
  LLORCH_OK(layers_from_hf(config, p, out));
  if (!json::find_bool(config, "enable_moe_block").value_or(false)) return {};
  LLORCH_OK(hf_copy_integer(config, "num_experts", p + "expert_count", out));
  LLORCH_OK(hf_copy_integer(config, "top_k_experts", p + "expert_used_count", out));
  return hf_copy_integer(config, "moe_intermediate_size", p + "expert_feed_forward_length", out);
}

}  // namespace
}  // namespace gemma4

extern const Architecture arch_gemma4;
const Architecture arch_gemma4{
    "gemma4",
    {"gemma4_text"},
    {"attention.sliding_window", "attention.sliding_window_pattern", "attention.key_length_swa",
     "attention.value_length_swa", "attention.shared_kv_layers", "rope.freq_base_swa", "rope.dimension_count_swa",
     "embedding_length_per_layer_input", "final_logit_softcapping", "expert_count", "expert_used_count",
     "expert_feed_forward_length"},
    gemma4::refine,
    listed<gemma4::make>,
    made<gemma4::make>,
    gemma4::from_hf,
    {}};

}  // namespace llorch::arch
