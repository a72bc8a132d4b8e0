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
/// Where a classification head's tensors are in a folder, and what is between them.
struct ClassifierForm {
  std::string_view hf_dense, hf_norm;  // hf_norm empty: there is none
  bool dense_bias = true;
  Classifier::Activation activation = Classifier::Activation::kTanh;
};
void make_classifier(PartMaker& m, const Hyper& h, Graph& graph, const ClassifierForm& form);
/// Of a config.json whose architecture classifies sequences: how many labels its head has.
[[nodiscard]] Status labels_from_hf(const json::object& config, const std::string& prefix, Metadata& out);
[[nodiscard]] Status types_from_hf(const json::object& config, Metadata& out);

}  // namespace llorch::arch::encoder
