// What encoders share: each token sees all others, and the results are states.
#pragma once

#include "arch/blocks.h"
#include "base/limits.h"

namespace llorch::arch::encoder {

[[nodiscard]] Status refine(const Metadata& metadata, const std::string& prefix, Hyper& h);
/// The embedding, and where `hf_types` is given those of token types, of which the first is everybody's.
void make_embedding(PartMaker& m, const Hyper& h, Graph& graph, std::string_view hf_embedding,
                    std::string_view hf_types);
[[nodiscard]] SoftmaxAttention sees_all(SoftmaxAttention attention, int rope);
[[nodiscard]] Status types_from_hf(const json::object& config, Metadata& out);

}  // namespace llorch::arch::encoder
