// LFM2 with experts: a sigmoid for each expert and a bias for the choice alone; the weights of the chosen are divided
// by their sum. Source: Liquid AI 2025, "LFM2 Technical Report".
#include "arch/lfm2.h"

namespace llorch::arch {
namespace lfm2moe {
namespace {

constexpr const char* kPrefix = "lfm2moe.";

Status refine(const Metadata& m, Hyper& h) {
  LLORCH_OK(read_experts(m, kPrefix, h));
  h.experts_normalized = true;
  LLORCH_OK(read_routing(m, kPrefix, h));
  if (!h.expert_sigmoid) return bad_model("'{}expert_gating_func' is not 2, a sigmoid", kPrefix);
  return lfm2::refine(m, kPrefix, h);
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(lfm2::from_hf(config, p, out));
  if (!json::find_bool(config, "norm_topk_prob").value_or(false) ||
      !json::find_bool(config, "use_expert_bias").value_or(false) ||
      json::find_number(config, "routed_scaling_factor").value_or(1) != 1)
    return bad_model("config.json: norm_topk_prob and use_expert_bias must be true, routed_scaling_factor 1");
  LLORCH_OK(hf_copy_integer(config, "num_experts", p + "expert_count", out));
  LLORCH_OK(hf_copy_integer(config, "num_experts_per_tok", p + "expert_used_count", out));
  LLORCH_OK(hf_copy_integer(config, "moe_intermediate_size", p + "expert_feed_forward_length", out));
  LLORCH_OK(hf_copy_integer(config, "num_dense_layers", p + "leading_dense_block_count", out));
  out.set(p + "expert_gating_func", MetaValue::u32(2));
  return {};
}

}  // namespace
}  // namespace lfm2moe

extern const Architecture arch_lfm2moe;
const Architecture arch_lfm2moe{"lfm2moe",
                                {"lfm2_moe"},
                                {"shortconv.l_cache", "expert_count", "expert_used_count", "expert_feed_forward_length",
                                 "leading_dense_block_count", "expert_gating_func"},
                                lfm2moe::refine,
                                listed<lfm2::make>,
                                made<lfm2::make>,
                                lfm2moe::from_hf,
                                {}};

}  // namespace llorch::arch
