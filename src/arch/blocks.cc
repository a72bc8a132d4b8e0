#include "arch/blocks.h"

#include <cmath>

#include "base/limits.h"

namespace llorch::arch {
namespace {
std::vector<std::uint64_t> dims(int a) { return {static_cast<std::uint64_t>(a)}; }
std::vector<std::uint64_t> dims(int a, int b) { return {static_cast<std::uint64_t>(a), static_cast<std::uint64_t>(b)}; }
}  // namespace

void add_linear(std::vector<TensorSpec>& list, const std::string& name, const std::string& hf, int in, int out,
                bool with_bias, HfLayout layout, int heads) {
  list.push_back({name + ".weight", dims(in, out), hf + ".weight", SynthKind::kMatrix, true, layout, heads});
  if (with_bias) {
    const HfLayout bias = layout == HfLayout::kRotaryPairs ? layout : HfLayout::kSame;
    list.push_back({name + ".bias", dims(out), hf + ".bias", SynthKind::kBias, true, bias, heads});
  }
}

void add_experts(std::vector<TensorSpec>& list, const std::string& name, const std::string& hf, int in, int out,
                 int experts) {
  std::vector<std::uint64_t> shape = dims(in, out);
  shape.push_back(static_cast<std::uint64_t>(experts));
  list.push_back({name + ".weight", shape, hf + ".weight", SynthKind::kMatrix, true, HfLayout::kEach});
}

void add_gain(std::vector<TensorSpec>& list, const std::string& name, const std::string& hf, int n) {
  list.push_back({name + ".weight", dims(n), hf + ".weight", SynthKind::kGain});
}

void add_ends(std::vector<TensorSpec>& list, const Hyper& h) {
  list.push_back({"token_embd.weight", dims(h.dim, h.vocab), "model.embed_tokens.weight"});
  add_gain(list, "output_norm", "model.norm", h.dim);
  list.push_back({"output.weight", dims(h.dim, h.vocab), "lm_head.weight", SynthKind::kMatrix, false});
}

void add_attention(std::vector<TensorSpec>& list, const Hyper& h, int l, bool qkv_bias, bool output_bias,
                   HfLayout qk_layout) {
  add_gain(list, block(l, "attn_norm"), hf_block(l, "input_layernorm"), h.dim);
  add_linear(list, block(l, "attn_q"), hf_block(l, "self_attn.q_proj"), h.dim, h.query_width(), qkv_bias, qk_layout,
             h.heads);
  add_linear(list, block(l, "attn_k"), hf_block(l, "self_attn.k_proj"), h.dim, h.key_width(), qkv_bias, qk_layout,
             h.kv_heads);
  add_linear(list, block(l, "attn_v"), hf_block(l, "self_attn.v_proj"), h.dim, h.key_width(), qkv_bias);
  add_linear(list, block(l, "attn_output"), hf_block(l, "self_attn.o_proj"), h.query_width(), h.dim, output_bias);
}

void add_normed_attention(std::vector<TensorSpec>& list, const Hyper& h, int l) {
  add_attention(list, h, l, false, false);
  add_gain(list, block(l, "attn_q_norm"), hf_block(l, "self_attn.q_norm"), h.head_dim);
  add_gain(list, block(l, "attn_k_norm"), hf_block(l, "self_attn.k_norm"), h.head_dim);
}

void add_gated_mlp(std::vector<TensorSpec>& list, const Hyper& h, int l) {
  add_gain(list, block(l, "ffn_norm"), hf_block(l, "post_attention_layernorm"), h.dim);
  add_linear(list, block(l, "ffn_gate"), hf_block(l, "mlp.gate_proj"), h.dim, h.ffn, false);
  add_linear(list, block(l, "ffn_up"), hf_block(l, "mlp.up_proj"), h.dim, h.ffn, false);
  add_linear(list, block(l, "ffn_down"), hf_block(l, "mlp.down_proj"), h.ffn, h.dim, false);
}

Status assemble_ends(const Hyper& h, Builder& in, Graph& graph) {
  LLORCH_TRY(graph.embedding, in.table("token_embd.weight"));
  LLORCH_TRY(graph.final_norm, in.norm("output_norm", h.eps));
  LLORCH_TRY(graph.head, in.head());
  return {};
}

namespace {
SoftmaxAttention attention_shape(const Hyper& h) {
  SoftmaxAttention a;
  a.heads = h.heads, a.kv_heads = h.kv_heads, a.head_dim = h.head_dim;
  a.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(h.head_dim)));
  a.rope = 0;
  return a;
}
}  // namespace

Result<SoftmaxAttention> assemble_attention(const Hyper& h, Builder& in, int l) {
  SoftmaxAttention a = attention_shape(h);
  LLORCH_TRY(a.query, in.linear(block(l, "attn_q")));
  LLORCH_TRY(a.key, in.linear(block(l, "attn_k")));
  LLORCH_TRY(a.value, in.linear(block(l, "attn_v")));
  LLORCH_TRY(a.output, in.linear(block(l, "attn_output")));
  return a;
}

Result<SoftmaxAttention> assemble_normed_attention(const Hyper& h, Builder& in, int l) {
  LLORCH_TRY(SoftmaxAttention a, assemble_attention(h, in, l));
  LLORCH_TRY(a.query_norm, in.norm(block(l, "attn_q_norm"), h.eps));
  LLORCH_TRY(a.key_norm, in.norm(block(l, "attn_k_norm"), h.eps));
  return a;
}

Result<SoftmaxAttention> assemble_fused_attention(const Hyper& h, Builder& in, int l) {
  SoftmaxAttention a = attention_shape(h);
  const auto q = static_cast<std::uint64_t>(h.query_width()), k = static_cast<std::uint64_t>(h.key_width());
  const std::string stem = block(l, "attn_qkv");
  LLORCH_TRY(a.query, in.linear_rows(stem, 0, q));
  LLORCH_TRY(a.key, in.linear_rows(stem, q, k));
  LLORCH_TRY(a.value, in.linear_rows(stem, q + k, k));
  LLORCH_TRY(a.output, in.linear(block(l, "attn_output")));
  return a;
}

Result<Mlp> assemble_gated_mlp(Builder& in, int l) {
  Mlp mlp;
  LLORCH_TRY(mlp.gate, in.linear(block(l, "ffn_gate")));
  LLORCH_TRY(mlp.up, in.linear(block(l, "ffn_up")));
  LLORCH_TRY(mlp.down, in.linear(block(l, "ffn_down")));
  return mlp;
}

Result<Moe> assemble_experts(const Hyper& h, Builder& in, int l, const Routing& routing) {
  Moe moe;
  moe.routing = routing;
  LLORCH_TRY(moe.router, in.linear(block(l, "ffn_gate_inp")));
  LLORCH_TRY(moe.gate, in.experts(block(l, "ffn_gate_exps"), h.experts));
  LLORCH_TRY(moe.up, in.experts(block(l, "ffn_up_exps"), h.experts));
  LLORCH_TRY(moe.down, in.experts(block(l, "ffn_down_exps"), h.experts));
  return moe;
}

Result<Block> assemble_block(const Hyper& h, Builder& in, int l) {
  Block block;
  LLORCH_TRY(block.mixer_norm, in.norm(arch::block(l, "attn_norm"), h.eps));
  LLORCH_TRY(block.mixer, assemble_attention(h, in, l));
  LLORCH_TRY(block.mlp_norm, in.norm(arch::block(l, "ffn_norm"), h.eps));
  LLORCH_TRY(block.feed_forward, assemble_gated_mlp(in, l));
  return block;
}

Status read_experts(const Metadata& m, const std::string& p, Hyper& h) {
  LLORCH_TRY(const auto experts, m.integer_in(p + "expert_count", 1, limits::kExpertsMax));
  LLORCH_TRY(const auto active, m.integer_in(p + "expert_used_count", 1, experts));
  LLORCH_TRY(const auto ffn, m.integer_in(p + "expert_feed_forward_length", 1, limits::kFeedForwardMax));
  h.experts = static_cast<int>(experts), h.experts_active = static_cast<int>(active);
  h.expert_ffn = static_cast<int>(ffn);
  return {};
}

RopeSpec make_rope(const Hyper& h, bool adjacent) {
  RopeSpec rope{h.rotated, adjacent, rope_frequencies(h.rotated, h.rope_base), 1};
  const RopeScaling& s = h.scaling;
  if (s.kind == "linear")
    for (double& f : rope.frequencies) f /= s.factor;
  if (s.kind == "yarn") {
    rope.frequencies =
        yarn_frequencies(h.rotated, h.rope_base, s.factor, s.original_context, s.beta_fast, s.beta_slow, s.round_range);
    rope.magnitude = s.attention_factor > 0 ? s.attention_factor : yarn_magnitude(s.factor);
  }
  return rope;
}

Status hf_copy_integer(const json::object& config, std::string_view from, std::string to, Metadata& out,
                       bool required) {
  const auto v = json::find_unsigned(config, from);
  if (!v || *v > UINT32_MAX) {
    if (!required && !json::find(config, from)) return {};
    return bad_model("config.json: '{}' is missing or no small integer", from);
  }
  out.set(std::move(to), MetaValue::u32(static_cast<std::uint32_t>(*v)));
  return {};
}

Status hf_common(const json::object& config, std::string_view prefix, Metadata& out) {
  const std::string p(prefix);
  LLORCH_OK(hf_copy_integer(config, "max_position_embeddings", p + "context_length", out));
  LLORCH_OK(hf_copy_integer(config, "hidden_size", p + "embedding_length", out));
  LLORCH_OK(hf_copy_integer(config, "num_hidden_layers", p + "block_count", out));
  LLORCH_OK(hf_copy_integer(config, "intermediate_size", p + "feed_forward_length", out));
  LLORCH_OK(hf_copy_integer(config, "num_attention_heads", p + "attention.head_count", out));
  LLORCH_OK(hf_copy_integer(config, "num_key_value_heads", p + "attention.head_count_kv", out, false));
  LLORCH_OK(hf_copy_integer(config, "head_dim", p + "attention.key_length", out, false));
  LLORCH_OK(hf_copy_integer(config, "head_dim", p + "attention.value_length", out, false));
  const auto eps = json::find_number(config, "rms_norm_eps");
  if (!eps) return bad_model("config.json: 'rms_norm_eps' is missing");
  out.set(p + "attention.layer_norm_rms_epsilon", MetaValue::f32(static_cast<float>(*eps)));
  // Newer configurations keep the base inside rope_parameters.
  const json::object* rope = json::find_object(config, "rope_parameters");
  if (!rope) rope = json::find_object(config, "rope_scaling");
  auto base = json::find_number(config, "rope_theta");
  if (!base && rope) base = json::find_number(*rope, "rope_theta");
  out.set(p + "rope.freq_base", MetaValue::f32(static_cast<float>(base.value_or(10000))));
  if (!rope) return {};
  auto kind = json::find_text(*rope, "rope_type");
  if (!kind) kind = json::find_text(*rope, "type");
  if (!kind || *kind == "default") return {};
  const auto number = [&](std::string_view key) { return json::find_number(*rope, key); };
  if (*kind == "linear" || *kind == "yarn") {
    out.set(p + "rope.scaling.type", MetaValue::text(*kind));
    out.set(p + "rope.scaling.factor", MetaValue::f32(static_cast<float>(number("factor").value_or(1))));
    if (const auto original = number("original_max_position_embeddings"))
      out.set(p + "rope.scaling.original_context_length", MetaValue::u32(static_cast<std::uint32_t>(*original)));
  } else if (*kind != "llama3" && *kind != "longrope" && *kind != "su") {
    return bad_model("config.json: rope scaling '{}' is not supported", *kind);
  }
  return {};
}

}  // namespace llorch::arch
