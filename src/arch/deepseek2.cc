// DeepSeek V2 and V3, GLM 4.7 Flash: latent attention with the key's and value's up projections absorbed; behind some
// dense layers experts, chosen by a softmax, or by sigmoids with a bias from the best groups; experts that all tokens
// share. Sources: DeepSeek-AI 2024, "DeepSeek-V2" and "DeepSeek-V3".
#include <cmath>

#include "arch/blocks.h"

namespace llorch::arch {
namespace deepseek2 {
namespace {

constexpr const char* kPrefix = "deepseek2.";
/// Of the norms of latents, in all of these models, whatever the file says of the others.
constexpr float kLatentEps = 1e-6f;

Status refine(const Metadata& m, Hyper& h) {
  const std::string p = kPrefix;
  const auto read = [&](int& to, const char* key, std::uint64_t low, std::uint64_t high,
                        std::optional<std::uint64_t> otherwise = {}) -> Status {
    LLORCH_TRY(const auto v, m.integer_in(p + "attention." + key, low, high, otherwise));
    to = static_cast<int>(v);
    return {};
  };
  LatentSizes& s = h.latent;
  LLORCH_OK(read(s.query_rank, "q_lora_rank", 0, limits::kEmbeddingMax, 0));
  LLORCH_OK(read(s.rank, "kv_lora_rank", 1, limits::kHeadDimMax));
  LLORCH_OK(read(s.key, "key_length_mla", 1, limits::kHeadDimMax));
  LLORCH_OK(read(s.value, "value_length_mla", 1, limits::kHeadDimMax));
  if (h.kv_heads != 1 || h.head_dim != s.rank + h.rotated || h.value_dim != s.rank || h.rotated >= s.key)
    return bad_model("{} KV heads, key length {} and value length {} do not fit latents of {} and a turning part of {}",
                     h.kv_heads, h.head_dim, h.value_dim, s.rank, h.rotated);
  if (h.scaling.kind != "none" && h.scaling.kind != "yarn")
    return bad_model("rope scaling '{}' is not supported for deepseek2", h.scaling.kind);
  LLORCH_OK(read_log_multiplier(m, p, h));
  LLORCH_OK(read_experts(m, p, h, false));
  LLORCH_OK(read_routing(m, p, h));
  if (h.expert_groups > 1 && !h.expert_sigmoid)
    return bad_model("groups of experts chosen by a softmax are not supported");
  return skip_drafts(m, p, h);
}

LatentAttention make_latent(PartMaker& m, const Hyper& h) {
  const LatentSizes& s = h.latent;
  LatentAttention a;
  a.heads = h.heads, a.plain = s.key - h.rotated, a.turning = h.rotated, a.latent_dim = s.rank, a.value_dim = s.value;
  a.rope = 0;
  const double growth = h.scaling.kind == "yarn" ? 1 + h.scaling.log_multiplier * std::log(h.scaling.factor) : 1;
  a.scale = static_cast<float>(growth * growth / std::sqrt(static_cast<double>(s.key)));
  const std::string hf = "self_attn.";
  if (s.query_rank > 0) {
    a.query_down = m.linear("attn_q_a", hf + "q_a_proj", h.dim, s.query_rank);
    a.query_norm = m.norm("attn_q_a_norm", hf + "q_a_layernorm", s.query_rank);
    a.query = m.linear("attn_q_b", hf + "q_b_proj", s.query_rank, h.heads * s.key);
  } else {
    a.query = m.linear("attn_q", hf + "q_proj", h.dim, h.heads * s.key);
  }
  a.latent = m.linear("attn_kv_a_mqa", hf + "kv_a_proj_with_mqa", h.dim, s.rank + h.rotated);
  a.latent_norm = m.norm("attn_kv_a_norm", hf + "kv_a_layernorm", s.rank);
  a.query_norm.eps = a.latent_norm.eps = kLatentEps;
  // Of each head rows of keys, turned here so that queries become latents, then rows of values.
  const int rows = a.plain + s.value;
  const std::string both = hf + "kv_b_proj.weight";
  const auto u = [](int v) { return static_cast<std::uint64_t>(v); };
  HfRuns keys = rows_of_each(s.rank, rows, 0, a.plain, h.heads);
  keys.run = 1;
  keys.from = [=, rank = u(s.rank), plain = u(a.plain)](std::uint64_t i) {
    return (i / (plain * rank) * u(rows) + i % plain) * rank + i / plain % rank;
  };
  a.key_up = m.experts("attn_k_b", {both, std::move(keys)}, a.plain, s.rank, h.heads);
  a.value_up =
      m.experts("attn_v_b", {both, rows_of_each(s.rank, rows, a.plain, s.value, h.heads)}, s.rank, s.value, h.heads);
  a.output = m.linear("attn_output", hf + "o_proj", h.heads * s.value, h.dim);
  return a;
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, true));
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
    b.mixer = make_latent(m, h);
    b.mlp_norm = m.norm("ffn_norm", "post_attention_layernorm", h.dim);
    b.feed_forward = make_routed_mlp(m, h, l);
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_refuse(config, {"attention_bias", "mlp_bias"}));
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_copy_integer(config, "q_lora_rank", p + "attention.q_lora_rank", out, false));
  LLORCH_OK(hf_copy_integer(config, "kv_lora_rank", p + "attention.kv_lora_rank", out));
  LLORCH_OK(hf_copy_integer(config, "kv_lora_rank", p + "attention.value_length", out));
  LLORCH_OK(hf_copy_integer(config, "v_head_dim", p + "attention.value_length_mla", out));
  LLORCH_OK(hf_copy_integer(config, "qk_rope_head_dim", p + "rope.dimension_count", out));
  const auto latent = json::find_unsigned(config, "kv_lora_rank"),
             plain = json::find_unsigned(config, "qk_nope_head_dim"),
             turning = json::find_unsigned(config, "qk_rope_head_dim");
  if (!plain || *plain > limits::kHeadDimMax || *turning > limits::kHeadDimMax || *latent > limits::kHeadDimMax)
    return bad_model("config.json: 'qk_nope_head_dim' is missing, or a size is too large");
  out.set(p + "attention.key_length", MetaValue::u32(static_cast<std::uint32_t>(*latent + *turning)));
  out.set(p + "attention.key_length_mla", MetaValue::u32(static_cast<std::uint32_t>(*plain + *turning)));
  out.set(p + "attention.head_count_kv", MetaValue::u32(1));
  LLORCH_OK(hf_copy_integer(config, "first_k_dense_replace", p + "leading_dense_block_count", out));
  LLORCH_OK(hf_routed_experts(config, p, out));
  const bool sigmoid = json::find_text(config, "scoring_func").value_or("softmax") == "sigmoid" ||
                       json::find_text(config, "model_type") != "deepseek_v2";
  out.set(p + "expert_gating_func", MetaValue::u32(sigmoid ? 2 : 1));
  const json::object* rope = json::find_object(config, "rope_parameters");
  if (!rope) rope = json::find_object(config, "rope_scaling");
  return rope ? hf_log_multiplier(*rope, 0.1, p, out) : Status();
}

}  // namespace
}  // namespace deepseek2

extern const Architecture arch_deepseek2;
const Architecture arch_deepseek2{
    "deepseek2",
    {"deepseek_v2", "deepseek_v3", "glm4_moe_lite"},
    {"attention.q_lora_rank", "attention.kv_lora_rank", "attention.key_length_mla", "attention.value_length_mla",
     "rope.scaling.yarn_log_multiplier", "expert_count", "expert_used_count", "expert_feed_forward_length",
     "expert_shared_count", "expert_group_count", "expert_group_used_count", "expert_gating_func",
     "expert_weights_norm", "expert_weights_scale", "leading_dense_block_count", "nextn_predict_layers"},
    deepseek2::refine,
    listed<deepseek2::make>,
    made<deepseek2::make>,
    deepseek2::from_hf,
    {"rotary_emb.inv_freq"}};

}  // namespace llorch::arch
