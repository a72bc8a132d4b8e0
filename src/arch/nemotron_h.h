// What Nemotron-H and its mixture share: layers of one part each.
#pragma once

#include "arch/blocks.h"
#include "base/limits.h"

namespace llorch::arch::nemotron_h {

[[nodiscard]] Status refine(const Metadata& metadata, const std::string& prefix, Hyper& h);
void make(const Hyper& h, PartMaker& m, Graph& graph);
[[nodiscard]] Status from_hf(const json::object& config, const std::string& prefix, Metadata& out);
/// Whether a configuration has layers with experts.
[[nodiscard]] bool has_experts(const json::object& config);

}  // namespace llorch::arch::nemotron_h
