// What Granite's families share: four scales, and rotary pairs that the converter made neighbours.
#pragma once

#include "arch/blocks.h"
#include "base/limits.h"

namespace llorch::arch::granite {

[[nodiscard]] Status refine(const Metadata& metadata, const std::string& prefix, Hyper& h);
/// Ends and rotation.
void make_ends(PartMaker& m, const Hyper& h, Graph& graph);
[[nodiscard]] AttentionForm attention_form();
[[nodiscard]] Status from_hf(const json::object& config, const std::string& prefix, Metadata& out);
/// num_local_experts, num_experts_per_tok.
[[nodiscard]] Status experts_from_hf(const json::object& config, const std::string& prefix, Metadata& out);
[[nodiscard]] ExpertNames experts(const Hyper& h);

}  // namespace llorch::arch::granite
