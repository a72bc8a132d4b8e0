// What Gemma 2 and 3 share: norms before and behind attention and MLP, stored less one, embeddings times the root of
// their width, a gated MLP with GELU, sliding and full layers.
#pragma once

#include "arch/blocks.h"
#include "base/limits.h"

namespace llorch::arch::gemma {

struct Form {
  int period = 2;        // every so many layers, the last is a full one
  int large_layers = 0;  // of the size whose scores are scaled by the embedding's width for each head
  bool head_norms = false;
  bool encoder = false;  // each token sees those to both sides, and there is no head
};

[[nodiscard]] Status refine(const Metadata& metadata, const std::string& prefix, const Form& form, Hyper& h);
[[nodiscard]] Status read_caps(const Metadata& metadata, const std::string& prefix, Hyper& h);
void make(const Hyper& h, PartMaker& m, Graph& graph, const Form& form);
[[nodiscard]] Status from_hf(const json::object& config, const std::string& prefix, Metadata& out);

}  // namespace llorch::arch::gemma
