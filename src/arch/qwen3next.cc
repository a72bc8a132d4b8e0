// Qwen3-Next: three layers of the gated delta rule, then one of attention, whose outputs are times the sigmoid of a
// gate that each head has beside its query; a mixture with a shared expert follows each. Norms are stored less one,
// except those of the delta net's heads. Sources: Qwen Team 2025, "Qwen3-Next"; Yang, Kautz and Hatamizadeh 2024.
#include "arch/qwen3next.h"

namespace llorch::arch {
namespace qwen3next {

Status refine(const Metadata& m, const std::string& p, Hyper& h) {
  if (h.scaling.kind != "none" && h.scaling.kind != "yarn")
    return bad_model("rope scaling '{}' is not supported for {}", h.scaling.kind, h.arch);
  LLORCH_OK(read_recurrence(m, p, h));
  LLORCH_TRY(h.recurrent, read_pattern(m, p + "attention.recurrent_layers", h.layers));
  LLORCH_TRY(const auto interval, m.integer_in(p + "full_attention_interval", 1, limits::kLayersMax, 4));
  for (int l = static_cast<int>(h.recurrent.size()); l < h.layers; ++l)
    h.recurrent.push_back((l + 1) % static_cast<int>(interval) != 0);
  if (m.has(p + "rope.dimension_sections")) {  // of text, whose three positions are one
    LLORCH_TRY(const auto sections, read_each(m, p + "rope.dimension_sections", 4, 0, limits::kHeadDimMax));
  }
  return skip_drafts(m, p, h);
}

Status refine_experts(const Metadata& m, const std::string& p, Hyper& h) {
  LLORCH_OK(read_experts(m, p, h));
  LLORCH_OK(read_routing(m, p, h));
  if (h.shared_ffn == 0) return bad_model("'{}expert_shared_feed_forward_length' is missing", p);
  return {};
}

namespace {

/// Where Hugging Face has the rows of a delta net's tensors.
struct Rows {
  std::uint64_t key_heads, each, key_dim, value_dim, keys;  // each: value heads of a key head; keys: rows of all

  explicit Rows(const RecurrentSizes& s)
      : key_heads(static_cast<std::uint64_t>(s.groups)),
        each(static_cast<std::uint64_t>(s.heads / s.groups)),
        key_dim(static_cast<std::uint64_t>(s.state)),
        value_dim(static_cast<std::uint64_t>(s.head_dim())),
        keys(2 * key_heads * key_dim) {}

  [[nodiscard]] std::uint64_t values() const { return each * value_dim; }  // of a key head
  [[nodiscard]] std::uint64_t inner() const { return key_heads * values(); }
  /// A tiled value head, grouped.
  [[nodiscard]] std::uint64_t grouped(std::uint64_t head) const { return head % key_heads * each + head / key_heads; }

  /// Runs of `run` values, `of_head` for each value head behind the first `before`.
  [[nodiscard]] HfRuns tiled(std::vector<std::uint64_t> dims, std::uint64_t run, std::uint64_t before,
                             std::uint64_t of_head) const {
    const std::uint64_t all = of_head * key_heads * each;
    return {std::move(dims), run, [=, r = *this](std::uint64_t i) {
              if (i < before) return i;
              const std::uint64_t run_of_all = (i - before) % all, head = run_of_all / of_head;
              return i - run_of_all + r.grouped(head) * of_head + run_of_all % of_head;
            }};
  }
  /// Rows of the tensor that has of each key head its query, its key, its values and their gates.
  [[nodiscard]] HfRuns of_all(std::uint64_t columns, bool gates) const {
    const std::uint64_t whole = 2 * key_dim + 2 * values();
    return {{columns, key_heads * whole}, columns, [=, r = *this](std::uint64_t row) {
              const std::uint64_t half = r.keys / 2;
              if (gates) return row / r.values() * whole + 2 * r.key_dim + r.values() + row % r.values();
              if (row < half) return row / r.key_dim * whole + row % r.key_dim;
              if (row < r.keys) return (row - half) / r.key_dim * whole + r.key_dim + row % r.key_dim;
              return (row - r.keys) / r.values() * whole + 2 * r.key_dim + (row - r.keys) % r.values();
            }};
  }
};

HfTensor decay(const std::string& name, HfRuns runs) {
  HfTensor hf(name, std::move(runs));
  hf.value = HfValue::kMinusExp;
  return hf;
}

GatedDeltaNet make_delta_net(PartMaker& m, const Hyper& h, Form form) {
  const RecurrentSizes& s = h.recurrence;
  const Rows rows(s);
  const auto dim = static_cast<std::uint64_t>(h.dim), heads = static_cast<std::uint64_t>(s.heads);
  const auto taps = static_cast<std::uint64_t>(s.taps), channels = static_cast<std::uint64_t>(s.channels());
  const std::string hf = "linear_attn.";
  GatedDeltaNet net;
  net.key_heads = s.groups, net.key_dim = s.state, net.value_heads = s.heads, net.value_dim = s.head_dim();
  net.eps = h.eps, net.tiled = form == Form::kTiled, net.convolution.taps = s.taps;
  if (form == Form::kTiled) {
    const auto of_head = [&](std::uint64_t count) { return rows.tiled({dim, count * heads}, dim, 0, count); };
    net.input = m.linear("attn_qkv", {hf + "in_proj_qkv", rows.tiled({dim, channels}, dim, rows.keys, rows.value_dim)},
                         h.dim, s.channels());
    net.gate = m.linear("attn_gate", {hf + "in_proj_z", of_head(rows.value_dim)}, h.dim, s.inner);
    net.beta = m.linear("ssm_beta", {hf + "in_proj_b", of_head(1)}, h.dim, s.heads);
    net.decay = m.linear("ssm_alpha", {hf + "in_proj_a", of_head(1)}, h.dim, s.heads);
    net.convolution.weight =
        m.transposed("ssm_conv1d", {hf + "conv1d", rows.tiled({taps, channels}, taps, rows.keys, rows.value_dim)},
                     s.taps, s.channels());
    net.decay_bias = m.vector("ssm_dt.bias", {hf + "dt_bias", rows.tiled({heads}, 1, 0, 1)}, {s.heads});
    net.decay_rate = m.vector("ssm_a", decay(hf + "A_log", rows.tiled({heads}, 1, 0, 1)), {s.heads});
    net.output =
        m.linear("ssm_out", {hf + "out_proj", rows.tiled({rows.inner(), dim}, rows.value_dim, 0, 1)}, s.inner, h.dim);
  } else {
    net.input = m.linear("attn_qkv", {hf + "in_proj_qkvz", rows.of_all(dim, false)}, h.dim, s.channels());
    net.gate = m.linear("attn_gate", {hf + "in_proj_qkvz", rows.of_all(dim, true)}, h.dim, s.inner);
    net.beta = m.linear("ssm_ba", hf + "in_proj_ba", h.dim, 2 * s.heads);
    net.convolution.weight = m.transposed("ssm_conv1d", hf + "conv1d", s.taps, s.channels());
    net.decay_bias = m.vector("ssm_dt.bias", hf + "dt_bias", {s.heads});
    net.decay_rate = m.vector("ssm_a", {hf + "A_log", HfValue::kMinusExp}, {s.heads});
    net.output = m.linear("ssm_out", hf + "out_proj", s.inner, h.dim);
  }
  m.gain = HfValue::kStored;
  net.norm = m.norm("ssm_norm", hf + "norm", s.head_dim());
  m.gain = HfValue::kPlusOne;
  return net;
}

FeedForward make_feed_forward(PartMaker& m, const Hyper& h, int l) {
  if (h.experts == 0) return make_mlp(m, h, h.ffn_of(l));
  Routing routing;
  routing.active = h.experts_active;  // a softmax of all, divided by the sum of the chosen: one of the chosen
  Moe moe = make_experts(m, h, routing);
  moe.shared =
      make_mlp(m, h, h.shared_ffn,
               {"mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj", "mlp.shared_expert.down_proj"}, "_shexp");
  moe.shared_gate = m.linear("ffn_gate_inp_shexp", "mlp.shared_expert_gate", h.dim, 1);
  return moe;
}

}  // namespace

void make(const Hyper& h, PartMaker& m, Graph& graph, Form form) {
  m.gain = HfValue::kPlusOne;
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, false));
  AttentionForm attention;
  attention.norms = AttentionForm::Norms::kEachHead, attention.gated = true;
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
    if (h.is_recurrent(l))
      b.mixer = make_delta_net(m, h, form);
    else
      b.mixer = make_attention(m, h, l, attention);
    b.mlp_norm = m.norm("post_attention_norm", "post_attention_layernorm", h.dim);
    b.feed_forward = make_feed_forward(m, h, l);
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, const std::string& p, Metadata& out) {
  LLORCH_OK(hf_refuse(config, {"attention_bias"}));
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_copy_integer(config, "linear_conv_kernel_dim", p + "ssm.conv_kernel", out));
  LLORCH_OK(hf_copy_integer(config, "linear_key_head_dim", p + "ssm.state_size", out));
  LLORCH_OK(hf_copy_integer(config, "linear_num_key_heads", p + "ssm.group_count", out));
  LLORCH_OK(hf_copy_integer(config, "linear_num_value_heads", p + "ssm.time_step_rank", out));
  LLORCH_OK(hf_inner_size(config, "linear_num_value_heads", "linear_value_head_dim", p, out));
  LLORCH_OK(hf_copy_integer(config, "full_attention_interval", p + "full_attention_interval", out, false));
  if (const std::vector<bool> recurrent = hf_layers(config, "linear_attention"); !recurrent.empty())
    out.set(p + "attention.recurrent_layers", pattern_value(recurrent));
  return {};
}

Status experts_from_hf(const json::object& config, const std::string& p, Metadata& out) {
  const json::array* dense = json::find_array(config, "mlp_only_layers");
  if ((dense && !dense->empty()) || json::find_unsigned(config, "decoder_sparse_step").value_or(1) != 1 ||
      !json::find_bool(config, "norm_topk_prob").value_or(true))
    return bad_model("config.json: mlp_only_layers, decoder_sparse_step or norm_topk_prob are not supported");
  LLORCH_OK(hf_copy_integer(config, "num_experts", p + "expert_count", out));
  LLORCH_OK(hf_copy_integer(config, "num_experts_per_tok", p + "expert_used_count", out));
  LLORCH_OK(hf_copy_integer(config, "moe_intermediate_size", p + "expert_feed_forward_length", out));
  return hf_copy_integer(config, "shared_expert_intermediate_size", p + "expert_shared_feed_forward_length", out);
}

namespace {

constexpr const char* kPrefix = "qwen3next.";

Status refine_next(const Metadata& m, Hyper& h) {
  LLORCH_OK(refine_experts(m, kPrefix, h));
  return refine(m, kPrefix, h);
}
void make_next(const Hyper& h, PartMaker& m, Graph& graph) { make(h, m, graph, Form::kGrouped); }
Status next_from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(from_hf(config, kPrefix, out));
  return experts_from_hf(config, kPrefix, out);
}

}  // namespace
}  // namespace qwen3next

extern const Architecture arch_qwen3next;
const Architecture arch_qwen3next{
    "qwen3next",
    {"qwen3_next"},
    {"expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_feed_forward_length",
     "ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size",
     "attention.recurrent_layers", "full_attention_interval", "nextn_predict_layers"},
    qwen3next::refine_next,
    listed<qwen3next::make_next>,
    made<qwen3next::make_next>,
    qwen3next::next_from_hf,
    {}};

}  // namespace llorch::arch
