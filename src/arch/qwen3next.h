// What Qwen3-Next and Qwen3.5 share: gated delta nets, and in every few layers attention whose heads have a gate.
#pragma once

#include "arch/blocks.h"
#include "base/limits.h"

namespace llorch::arch::qwen3next {

/// How the values' heads are stored.
enum class Form {
  kGrouped,  // Qwen3-Next: beside their key heads, in one tensor with the keys
  kTiled,    // Qwen3.5: value head h belongs to key head h % key heads; Hugging Face has them grouped
};

[[nodiscard]] Status refine(const Metadata& metadata, const std::string& prefix, Hyper& h);
[[nodiscard]] Status refine_experts(const Metadata& metadata, const std::string& prefix, Hyper& h);
void make(const Hyper& h, PartMaker& m, Graph& graph, Form form);
[[nodiscard]] Status from_hf(const json::object& config, const std::string& prefix, Metadata& out);
[[nodiscard]] Status experts_from_hf(const json::object& config, const std::string& prefix, Metadata& out);

}  // namespace llorch::arch::qwen3next
