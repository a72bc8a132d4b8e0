// Llama 4: in every fourth layer nothing turns, and queries grow with their position; in the others heads are
// normalised behind the rotation, without weights, and see the positions of their chunk alone. Some layers have
// experts, of which a token gets one, whose input is times its weight, beside one that all share. Source: Meta 2025,
// "The Llama 4 herd".
//
// What lies beyond the first chunk is not computed: the context ends there.
#include "arch/blocks.h"
#include "base/limits.h"

namespace llorch::arch {
namespace llama4 {
namespace {

constexpr const char* kPrefix = "llama4.";
constexpr int kInterval = 4, kChunk = 8192, kUnknownExperts = 128;
constexpr double kGrowth = 0.1, kGrowthEvery = 8192;

Status refine(const Metadata& m, Hyper& h) {
  const std::string p = kPrefix;
  if (h.scaling.kind != "none") return bad_model("rope scaling '{}' is not supported for llama4", h.scaling.kind);
  LLORCH_OK(read_experts(m, p, h));
  if (h.experts == kUnknownExperts)  // its heads are not normalised, which no key says
    return bad_model("llama4 with {} experts is not supported", kUnknownExperts);
  h.expert_sigmoid = true;
  LLORCH_OK(read_routing(m, p, h));
  if (h.head_dim % 2 != 0) return bad_model("heads of {} values are not supported for llama4", h.head_dim);
  h.context = std::min(h.context, kChunk), h.run_context = h.context;
  return {};
}

FeedForward make_feed_forward(PartMaker& m, const Hyper& h, int l) {
  const std::string hf = "feed_forward.";
  if (!h.has_experts(l)) return make_mlp(m, h, h.ffn_of(l), {hf + "gate_proj", hf + "up_proj", hf + "down_proj"});
  // Stored (expert, in, gates and ups).
  const auto half = [&](int first) -> HfTensor {
    const auto dim = static_cast<std::uint64_t>(h.dim), ffn = static_cast<std::uint64_t>(h.expert_ffn);
    return {hf + "experts.gate_up_proj",
            HfRuns{{2 * ffn, dim, static_cast<std::uint64_t>(h.experts)}, 1, [=](std::uint64_t i) {
                     return (i / (dim * ffn) * dim + i % dim) * 2 * ffn + static_cast<std::uint64_t>(first) +
                            i / dim % ffn;
                   }}};
  };
  Moe moe =
      make_experts(m, h, routing_of(h),
                   {hf + "router", half(0), half(h.expert_ffn), {hf + "experts.down_proj", HfLayout::kTransposedEach}});
  moe.routing.of_input = true;
  const std::string shared = hf + "shared_expert.";
  moe.shared = make_mlp(m, h, h.expert_ffn, {shared + "gate_proj", shared + "up_proj", shared + "down_proj"}, "_shexp");
  return moe;
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  RopeSpec grows{h.head_dim, true, std::vector<double>(static_cast<std::size_t>(h.head_dim / 2), 0), 1};
  grows.growth = kGrowth, grows.growth_every = kGrowthEvery, grows.growth_offset = 1;
  graph.ropes = {make_rope(h, true), grows};
  divide_by_rope_freqs(m, graph.ropes.front());
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b;
    b.mixer_norm = m.norm("attn_norm", "input_layernorm", h.dim);
    SoftmaxAttention a = make_attention(m, h, l);
    if ((l + 1) % kInterval == 0) {
      a.rope = -1, a.query_rope = 1;
    } else {
      a.query_norm = a.key_norm = m.plain_norm(h.head_dim);
      a.norm_after_rope = true;
    }
    b.mixer = std::move(a);
    b.mlp_norm = m.norm("ffn_norm", "post_attention_layernorm", h.dim);
    b.feed_forward = make_feed_forward(m, h, l);
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_refuse(config, {"attention_bias"}));
  LLORCH_OK(hf_turned_layers(config, kInterval));
  if (!json::find_bool(config, "use_qk_norm").value_or(true) ||
      !json::find_bool(config, "attn_temperature_tuning").value_or(true) ||
      json::find_number(config, "attn_scale").value_or(kGrowth) != kGrowth ||
      json::find_number(config, "floor_scale").value_or(kGrowthEvery) != kGrowthEvery ||
      json::find_number(config, "attention_chunk_size").value_or(kChunk) < kChunk)
    return bad_model("config.json: use_qk_norm, attention_chunk_size or the temperature are not Llama 4's usual ones");
  LLORCH_OK(hf_common(config, p, out));
  LLORCH_OK(hf_copy_integer(config, "intermediate_size", p + "expert_feed_forward_length", out));
  LLORCH_OK(hf_copy_integer(config, "intermediate_size_mlp", p + "feed_forward_length", out));
  LLORCH_OK(hf_copy_integer(config, "num_local_experts", p + "expert_count", out));
  LLORCH_OK(hf_copy_integer(config, "num_experts_per_tok", p + "expert_used_count", out));
  return hf_copy_integer(config, "interleave_moe_layer_step", p + "interleave_moe_layer_step", out);
}

}  // namespace
}  // namespace llama4

extern const Architecture arch_llama4;
const Architecture arch_llama4{
    "llama4",
    {"llama4_text"},
    {"expert_count", "expert_used_count", "expert_feed_forward_length", "interleave_moe_layer_step"},
    llama4::refine,
    listed<llama4::make>,
    made<llama4::make>,
    llama4::from_hf,
    {"rotary_emb.inv_freq"}};

}  // namespace llorch::arch
