#include "arch/blocks.h"

#include <cmath>
#include <functional>

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
  add_linear(list, block(l, "attn_k"), hf_block(l, "self_attn.k_proj"), h.dim, h.kv_heads_of(l) * h.head_dim, qkv_bias,
             qk_layout, h.kv_heads_of(l));
  add_linear(list, block(l, "attn_v"), hf_block(l, "self_attn.v_proj"), h.dim, h.kv_heads_of(l) * h.head_dim, qkv_bias);
  add_linear(list, block(l, "attn_output"), hf_block(l, "self_attn.o_proj"), h.query_width(), h.dim, output_bias);
}

void add_normed_attention(std::vector<TensorSpec>& list, const Hyper& h, int l) {
  add_attention(list, h, l, false, false);
  add_gain(list, block(l, "attn_q_norm"), hf_block(l, "self_attn.q_norm"), h.head_dim);
  add_gain(list, block(l, "attn_k_norm"), hf_block(l, "self_attn.k_norm"), h.head_dim);
}

void add_gated_mlp(std::vector<TensorSpec>& list, const Hyper& h, int l) {
  add_gain(list, block(l, "ffn_norm"), hf_block(l, "post_attention_layernorm"), h.dim);
  add_linear(list, block(l, "ffn_gate"), hf_block(l, "mlp.gate_proj"), h.dim, h.ffn_of(l), false);
  add_linear(list, block(l, "ffn_up"), hf_block(l, "mlp.up_proj"), h.dim, h.ffn_of(l), false);
  add_linear(list, block(l, "ffn_down"), hf_block(l, "mlp.down_proj"), h.ffn_of(l), h.dim, false);
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
  a.kv_heads = h.kv_heads_of(l);
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

Status read_experts(const Metadata& m, const std::string& p, Hyper& h, bool required) {
  const std::optional<std::uint64_t> absent = required ? std::nullopt : std::optional<std::uint64_t>(0);
  LLORCH_TRY(const auto experts, m.integer_in(p + "expert_count", required, limits::kExpertsMax, absent));
  LLORCH_TRY(const auto active, m.integer_in(p + "expert_used_count", experts > 0, experts,
                                             experts > 0 ? std::nullopt : std::optional<std::uint64_t>(0)));
  LLORCH_TRY(const auto ffn, m.integer_in(p + "expert_feed_forward_length", 1, limits::kFeedForwardMax,
                                          static_cast<std::uint64_t>(h.ffn)));
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
    rope.magnitude = s.attention_factor > 0 ? s.attention_factor : s.log_multiplier > 0 ? 1 : yarn_magnitude(s.factor);
  }
  return rope;
}

void make_ends(PartMaker& m, const Hyper& h, Graph& graph, std::string_view hf_norm, std::string_view hf_embedding,
               std::string_view norm) {
  graph.embedding = m.table("token_embd", std::string(hf_embedding), h.dim, h.vocab);
  graph.final_norm = m.norm(norm, std::string(hf_norm), h.dim);
  graph.head = m.head("lm_head", h.dim, h.vocab);
  graph.embedding_scale = h.embedding_scale;
}

SoftmaxAttention make_attention(PartMaker& m, const Hyper& h, int l, const AttentionForm& form) {
  SoftmaxAttention a = attention_shape(h);
  a.kv_heads = h.kv_heads_of(l), a.window = h.window_of(l);
  if (h.attention_scale > 0) a.scale = h.attention_scale;
  const std::string hf(form.hf);
  const std::string query = hf + std::string(form.hf_query), key = hf + std::string(form.hf_key),
                    value = hf + std::string(form.hf_value);
  const HfLayout layout = form.permuted ? HfLayout::kRotaryPairs : HfLayout::kSame;
  if (form.gated) {
    m.tensor("attn_q", query, {h.dim, 2 * a.query_width()}, form.bias);
    a.query = m.runs("attn_q", 0, a.query_width(), h.head_dim, 2 * h.head_dim);
    a.gate = m.runs("attn_q", h.head_dim, a.query_width(), h.head_dim, 2 * h.head_dim);
  } else {
    a.query = m.linear("attn_q", {query, layout, h.heads}, h.dim, a.query_width(), form.bias);
  }
  if (form.keys) {
    a.key = m.linear("attn_k", {key, layout, a.kv_heads}, h.dim, a.key_width(), form.bias);
    a.value = form.value_may_be_key ? m.optional_linear("attn_v", value, h.dim, a.key_width())
                                    : m.linear("attn_v", value, h.dim, a.key_width(), form.bias);
    if (!a.value.weight.there()) a.value = a.key;
  }
  a.output = m.linear("attn_output", hf + std::string(form.hf_output), a.query_width(), h.dim, form.output_bias);
  if (form.norms == AttentionForm::Norms::kNone) return a;
  const bool all = form.norms == AttentionForm::Norms::kAllHeads;
  a.query_norm = m.norm("attn_q_norm", hf + std::string(form.hf_query_norm), all ? a.query_width() : h.head_dim);
  if (form.keys)
    a.key_norm = m.norm("attn_k_norm", hf + std::string(form.hf_key_norm), all ? a.key_width() : h.head_dim);
  return a;
}

SoftmaxAttention make_fused_attention(PartMaker& m, const Hyper& h, int l, std::string_view hf_all,
                                      std::string_view hf_output) {
  SoftmaxAttention a = attention_shape(h);
  a.kv_heads = h.kv_heads_of(l), a.window = h.window_of(l);
  const int q = a.query_width(), k = a.key_width();
  m.tensor("attn_qkv", std::string(hf_all), {h.dim, q + 2 * k});
  a.query = m.rows("attn_qkv", 0, q), a.key = m.rows("attn_qkv", q, k), a.value = m.rows("attn_qkv", q + k, k);
  a.output = m.linear("attn_output", std::string(hf_output), q, h.dim);
  return a;
}

Mlp make_mlp(PartMaker& m, const Hyper& h, int ffn, const MlpNames& hf, std::string_view suffix) {
  const std::string end(suffix);
  Mlp mlp;
  mlp.gate = m.linear("ffn_gate" + end, hf.gate, h.dim, ffn);
  mlp.up = m.linear("ffn_up" + end, hf.up, h.dim, ffn);
  mlp.down = m.linear("ffn_down" + end, hf.down, ffn, h.dim);
  return mlp;
}

Mlp make_fused_mlp(PartMaker& m, const Hyper& h, int ffn, std::string_view hf_both, std::string_view hf_down) {
  Mlp mlp;
  m.tensor("ffn_up", std::string(hf_both), {h.dim, 2 * ffn});
  mlp.gate = m.rows("ffn_up", 0, ffn), mlp.up = m.rows("ffn_up", ffn, ffn);
  mlp.down = m.linear("ffn_down", std::string(hf_down), ffn, h.dim);
  return mlp;
}

Moe make_experts(PartMaker& m, const Hyper& h, const Routing& routing, const ExpertNames& hf) {
  Moe moe;
  moe.routing = routing;
  moe.router = m.linear("ffn_gate_inp", hf.router, h.dim, h.experts);
  if (!hf.gate.name.empty()) moe.gate = m.experts("ffn_gate_exps", hf.gate, h.dim, h.expert_ffn, h.experts);
  moe.up = m.experts("ffn_up_exps", hf.up, h.dim, h.expert_ffn, h.experts);
  moe.down = m.experts("ffn_down_exps", hf.down, h.expert_ffn, h.dim, h.experts);
  return moe;
}

void make_choice_bias(PartMaker& m, const Hyper& h, Moe& moe, std::string_view hf) {
  moe.choice_bias = m.vector("exp_probs_b.bias", std::string(hf), {h.experts});
}

FeedForward make_routed_mlp(PartMaker& m, const Hyper& h, int l) {
  if (!h.has_experts(l)) return make_mlp(m, h, h.ffn_of(l));
  Moe moe = make_experts(m, h, routing_of(h));
  if (h.expert_sigmoid) make_choice_bias(m, h, moe, "mlp.gate.e_score_correction_bias");
  const std::string shared = "mlp.shared_experts.";
  if (h.shared_ffn > 0)
    moe.shared =
        make_mlp(m, h, h.shared_ffn, {shared + "gate_proj", shared + "up_proj", shared + "down_proj"}, "_shexp");
  return moe;
}

void divide_by_rope_freqs(PartMaker& m, RopeSpec& rope) {
  const std::vector<float> factors = m.values("rope_freqs.weight", "", {rope.rotated / 2}, false);
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(factors[i] > 0))
      return m.refuse(bad_model("tensor 'rope_freqs.weight' holds {}, factors must be positive", factors[i]).error());
    rope.frequencies[i] /= static_cast<double>(factors[i]);
  }
}

Block make_block(PartMaker& m, const Hyper& h, int l, const AttentionForm& form, std::string_view mlp_norm) {
  Block b;
  b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
  b.mixer = make_attention(m, h, l, form);
  b.mlp_norm = m.norm(mlp_norm, "post_attention_layernorm", h.dim);
  b.feed_forward = make_mlp(m, h, h.ffn_of(l));
  b.mixer_scale = b.mlp_scale = h.residual_scale;
  return b;
}

Mamba2 make_mamba(PartMaker& m, const Hyper& h, const std::string& hf) {
  const RecurrentSizes& s = h.recurrence;
  Mamba2 mamba;
  mamba.heads = s.heads, mamba.head_dim = s.head_dim(), mamba.groups = s.groups, mamba.state_dim = s.state;
  m.tensor("ssm_in", hf + "in_proj", {h.dim, s.inner + s.channels() + s.heads});
  mamba.gate = m.rows("ssm_in", 0, s.inner);
  mamba.input = m.rows("ssm_in", s.inner, s.channels());
  mamba.step = m.rows("ssm_in", s.inner + s.channels(), s.heads);
  mamba.convolution.taps = s.taps;
  mamba.convolution.weight = m.transposed("ssm_conv1d", hf + "conv1d", s.taps, s.channels());
  mamba.convolution.bias = m.vector("ssm_conv1d.bias", hf + "conv1d.bias", {s.channels()});
  mamba.step_bias = m.vector("ssm_dt.bias", hf + "dt_bias", {s.heads});
  mamba.decay_rate = m.vector("ssm_a", {hf + "A_log", HfValue::kMinusExp}, {1, s.heads});
  mamba.skip = m.vector("ssm_d", hf + "D", {1, s.heads});
  const int group = s.inner / s.groups;
  HfRuns whole{{static_cast<std::uint64_t>(s.inner)}, static_cast<std::uint64_t>(group), std::identity()};
  mamba.norm = {
      m.vector("ssm_norm.weight", {hf + "norm.weight", whole}, {group, s.groups}, SynthKind::kGain), {}, h.eps};
  mamba.output = m.linear("ssm_out", hf + "out_proj", s.inner, h.dim);
  return mamba;
}

ExpertNames fused_experts(const Hyper& h, const HfTensor& router, const std::string& both, const std::string& down) {
  const auto half = [&](int first) {
    return rows_of_each(h.dim, 2 * h.expert_ffn, first, h.expert_ffn, h.experts, true);
  };
  return {router, {both, half(0)}, {both, half(h.expert_ffn)}, down};
}

HfRuns rows_of_each(int columns, int rows_stored, int first, int rows, int count, bool stacked) {
  const auto u = [](int v) { return static_cast<std::uint64_t>(v); };
  HfRuns runs{{u(columns), u(rows_stored) * (stacked ? 1 : u(count))}, u(columns), {}};
  if (stacked) runs.dims.push_back(u(count));
  runs.from = [=](std::uint64_t row) { return row / u(rows) * u(rows_stored) + u(first) + row % u(rows); };
  return runs;
}

Status read_scales(const Metadata& m, const std::string& p, Hyper& h) {
  const auto read = [&](const char* key, float& to) -> Status {
    LLORCH_TRY(const double v, m.number_or(p + key, static_cast<double>(to)));
    if (m.has(p + key) && !(v > 1e-9 && v < 1e9)) return bad_model("'{}{}' is {}", p, key, v);
    to = static_cast<float>(v);
    return {};
  };
  LLORCH_OK(read("embedding_scale", h.embedding_scale));
  LLORCH_OK(read("attention.scale", h.attention_scale));
  LLORCH_OK(read("residual_scale", h.residual_scale));
  return read("logit_scale", h.logit_scale);
}

Status read_recurrence(const Metadata& m, const std::string& p, Hyper& h) {
  RecurrentSizes& s = h.recurrence;
  const auto read = [&](int& to, const char* key, std::uint64_t low, std::uint64_t high) -> Status {
    LLORCH_TRY(const auto v, m.integer_in(p + "ssm." + key, low, high));
    to = static_cast<int>(v);
    return {};
  };
  LLORCH_OK(read(s.taps, "conv_kernel", 2, limits::kTapsMax));
  LLORCH_OK(read(s.state, "state_size", 1, limits::kRecurrentDimMax));
  LLORCH_OK(read(s.groups, "group_count", 1, limits::kHeadsMax));
  LLORCH_OK(read(s.heads, "time_step_rank", 1, limits::kHeadsMax));
  LLORCH_OK(read(s.inner, "inner_size", 1, limits::kEmbeddingMax));
  if (s.inner % s.heads != 0 || s.inner % s.groups != 0 || s.heads % s.groups != 0 ||
      s.head_dim() > static_cast<int>(limits::kRecurrentDimMax) ||
      s.channels() > static_cast<int>(4 * limits::kEmbeddingMax))
    return bad_model("'{}ssm': inner size {}, {} heads and {} groups of state {} do not fit together", p, s.inner,
                     s.heads, s.groups, s.state);
  return {};
}

Status read_routing(const Metadata& m, const std::string& p, Hyper& h) {
  const auto read = [&](int& to, const char* key, std::uint64_t low, std::uint64_t high,
                        std::uint64_t otherwise) -> Status {
    LLORCH_TRY(const auto v, m.integer_in(p + key, low, high, otherwise));
    to = static_cast<int>(v);
    return {};
  };
  const auto experts = static_cast<std::uint64_t>(h.experts);
  LLORCH_OK(read(h.leading_dense, "leading_dense_block_count", 0, static_cast<std::uint64_t>(h.layers), 0));
  LLORCH_OK(read(h.expert_interval, "interleave_moe_layer_step", 1, limits::kLayersMax, 1));
  LLORCH_OK(read(h.expert_groups, "expert_group_count", 1, std::max<std::uint64_t>(experts, 1), 1));
  LLORCH_OK(read(h.expert_groups_active, "expert_group_used_count", 1, static_cast<std::uint64_t>(h.expert_groups),
                 static_cast<std::uint64_t>(h.expert_groups)));
  if (h.experts % h.expert_groups != 0 || h.experts_active > h.experts / h.expert_groups * h.expert_groups_active)
    return bad_model("{} of {} experts cannot come from {} of {} groups", h.experts_active, h.experts,
                     h.expert_groups_active, h.expert_groups);
  int shared = 0, gating = 0;
  LLORCH_OK(read(shared, "expert_shared_count", 0, limits::kExpertsMax, 0));
  LLORCH_OK(read(h.shared_ffn, "expert_shared_feed_forward_length", 0, limits::kFeedForwardMax, 0));
  if (h.shared_ffn == 0 && shared > 0) {
    if (std::int64_t{shared} * h.expert_ffn > static_cast<std::int64_t>(limits::kFeedForwardMax))
      return bad_model("{} shared experts of {} are too wide", shared, h.expert_ffn);
    h.shared_ffn = shared * h.expert_ffn;
  }
  LLORCH_OK(read(gating, "expert_gating_func", 1, 2, h.expert_sigmoid ? 2 : 1));
  h.expert_sigmoid = gating == 2;
  LLORCH_TRY(h.experts_normalized, m.boolean_or(p + "expert_weights_norm", h.experts_normalized));
  LLORCH_TRY(const double scale, m.number_or(p + "expert_weights_scale", 1));
  if (!(scale > 0 && scale < 1e6)) return bad_model("'{}expert_weights_scale' is {}", p, scale);
  h.expert_scale = static_cast<float>(scale);
  return {};
}

Routing routing_of(const Hyper& h) {
  Routing routing;
  routing.score = h.expert_sigmoid ? Routing::Score::kSigmoid : Routing::Score::kSoftmaxOfAll;
  routing.active = h.experts_active, routing.normalize = h.experts_normalized, routing.scale = h.expert_scale;
  routing.groups = h.expert_groups, routing.groups_active = h.expert_groups_active;
  return routing;
}

Status read_log_multiplier(const Metadata& m, const std::string& p, Hyper& h) {
  LLORCH_TRY(h.scaling.log_multiplier, m.number_or(p + "rope.scaling.yarn_log_multiplier", 0));
  if (h.scaling.log_multiplier >= 0 && h.scaling.log_multiplier < 100) return {};
  return bad_model("'{}rope.scaling.yarn_log_multiplier' is {}", p, h.scaling.log_multiplier);
}

Status skip_drafts(const Metadata& m, const std::string& p, Hyper& h) {
  LLORCH_TRY(const auto drafts,
             m.integer_in(p + "nextn_predict_layers", 0, static_cast<std::uint64_t>(h.layers) - 1, 0));
  h.skipped_layers = static_cast<int>(drafts), h.layers -= h.skipped_layers;
  const auto layers = static_cast<std::size_t>(h.layers);
  h.layer_kv_heads.resize(layers), h.layer_ffn.resize(layers);
  if (!h.recurrent.empty()) h.recurrent.resize(layers);
  if (!h.sliding.empty()) h.sliding.resize(layers);
  return {};
}

Status read_windows(const Metadata& m, const std::string& p, int period, Hyper& h) {
  LLORCH_TRY(const auto window, m.integer_in(p + "attention.sliding_window", 0, 1u << 24, 0));
  h.window = static_cast<int>(window);
  const std::string key = p + "attention.sliding_window_pattern";
  if (const MetaValue* v = m.find(key); v && v->type == MetaType::kArray) {
    LLORCH_TRY(h.sliding, read_pattern(m, key, h.layers));
  } else {
    LLORCH_TRY(const auto each, m.integer_in(key, 1, limits::kLayersMax, static_cast<std::uint64_t>(period)));
    for (int l = 0; l < h.layers; ++l) h.sliding.push_back(each == 0 || (l + 1) % static_cast<int>(each) != 0);
  }
  LLORCH_TRY(h.sliding_rope_base, m.number_or(p + "rope.freq_base_swa", h.sliding_rope_base));
  if (!(h.sliding_rope_base > 1 && h.sliding_rope_base < 1e12))
    return bad_model("'{}rope.freq_base_swa' is {}", p, h.sliding_rope_base);
  return {};
}

}  // namespace llorch::arch
