// What LFM2 and its mixture of experts share.
#pragma once

#include "arch/blocks.h"
#include "base/limits.h"

namespace llorch::arch::lfm2 {

[[nodiscard]] Status refine(const Metadata& metadata, const std::string& prefix, Hyper& h);
void make(const Hyper& h, PartMaker& m, Graph& graph);
[[nodiscard]] Status from_hf(const json::object& config, const std::string& prefix, Metadata& out);

}  // namespace llorch::arch::lfm2
