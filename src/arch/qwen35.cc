// Qwen3.5 (dense): Qwen3-Next's layers with an MLP; projections of the delta net stand apart, and its value heads are
// tiled over the key heads. Source: Qwen Team 2026, "Qwen3.5".
#include "arch/qwen3next.h"

namespace llorch::arch {
namespace qwen35 {
namespace {

constexpr const char* kPrefix = "qwen35.";

Status refine(const Metadata& m, Hyper& h) { return qwen3next::refine(m, kPrefix, h); }
void make(const Hyper& h, PartMaker& m, Graph& graph) { qwen3next::make(h, m, graph, qwen3next::Form::kTiled); }
Status from_hf(const json::object& config, Metadata& out) { return qwen3next::from_hf(config, kPrefix, out); }

}  // namespace
}  // namespace qwen35

extern const Architecture arch_qwen35;
const Architecture arch_qwen35{
    "qwen35",
    {"qwen3_5_text"},
    {"ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size",
     "attention.recurrent_layers", "full_attention_interval", "nextn_predict_layers", "rope.dimension_sections"},
    qwen35::refine,
    listed<qwen35::make>,
    made<qwen35::make>,
    qwen35::from_hf,
    {}};

}  // namespace llorch::arch
