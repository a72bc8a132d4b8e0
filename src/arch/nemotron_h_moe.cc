// Nemotron-H (mixture of experts): layers of experts in the place of MLPs, chosen by sigmoids with a bias, and one
// that all tokens share. Source: NVIDIA 2025, "Nemotron 3".
#include "arch/nemotron_h.h"

namespace llorch::arch {
namespace nemotron_h_moe {
namespace {

constexpr const char* kPrefix = "nemotron_h_moe.";

Status refine(const Metadata& m, Hyper& h) {
  LLORCH_OK(read_experts(m, kPrefix, h));
  h.expert_sigmoid = true;
  LLORCH_OK(read_routing(m, kPrefix, h));
  return nemotron_h::refine(m, kPrefix, h);
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(nemotron_h::from_hf(config, p, out));
  LLORCH_OK(hf_routed_experts(config, p, out));
  return hf_copy_integer(config, "moe_shared_expert_intermediate_size", p + "expert_shared_feed_forward_length", out);
}

}  // namespace
}  // namespace nemotron_h_moe

extern const Architecture arch_nemotron_h_moe;
const Architecture arch_nemotron_h_moe{
    "nemotron_h_moe",
    {"nemotron_h"},
    {"ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size", "expert_count",
     "expert_used_count", "expert_feed_forward_length", "expert_shared_feed_forward_length", "expert_shared_count",
     "expert_group_count", "expert_group_used_count", "expert_gating_func", "expert_weights_norm",
     "expert_weights_scale"},
    nemotron_h_moe::refine,
    listed<nemotron_h::make>,
    made<nemotron_h::make>,
    nemotron_h_moe::from_hf,
    {},
    nemotron_h::has_experts};

}  // namespace llorch::arch
