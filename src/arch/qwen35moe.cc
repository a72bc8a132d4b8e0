// Qwen3.5 (mixture of experts): Qwen3.5's layers with Qwen3-Next's mixture. Source: Qwen Team 2026, "Qwen3.5".
#include "arch/qwen3next.h"

namespace llorch::arch {
namespace qwen35moe {
namespace {

constexpr const char* kPrefix = "qwen35moe.";

Status refine(const Metadata& m, Hyper& h) {
  LLORCH_OK(qwen3next::refine_experts(m, kPrefix, h));
  return qwen3next::refine(m, kPrefix, h);
}
void make(const Hyper& h, PartMaker& m, Graph& graph) { qwen3next::make(h, m, graph, qwen3next::Form::kTiled); }
Status from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(qwen3next::from_hf(config, kPrefix, out));
  return qwen3next::experts_from_hf(config, kPrefix, out);
}

}  // namespace
}  // namespace qwen35moe

extern const Architecture arch_qwen35moe;
const Architecture arch_qwen35moe{
    "qwen35moe",
    {"qwen3_5_moe_text"},
    {"expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_feed_forward_length",
     "ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size",
     "attention.recurrent_layers", "full_attention_interval", "nextn_predict_layers", "rope.dimension_sections"},
    qwen35moe::refine,
    listed<qwen35moe::make>,
    made<qwen35moe::make>,
    qwen35moe::from_hf,
    {}};

}  // namespace llorch::arch
