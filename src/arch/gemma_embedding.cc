// EmbeddingGemma: Gemma 3's layers, in which each token sees those to both sides. Source: Gemma Team 2025,
// "EmbeddingGemma".
#include "arch/encoder.h"
#include "arch/gemma.h"

namespace llorch::arch {
namespace gemma_embedding {
namespace {

constexpr const char* kPrefix = "gemma-embedding.";
constexpr gemma::Form kForm{6, 0, true, true};

Status refine(const Metadata& m, Hyper& h) {
  LLORCH_OK(encoder::refine(m, kPrefix, h));
  return gemma::refine(m, kPrefix, kForm, h);
}
void make(const Hyper& h, PartMaker& m, Graph& graph) { gemma::make(h, m, graph, kForm); }
Status from_hf(const json::object& config, Metadata& out) { return gemma::from_hf(config, kPrefix, out); }
bool matches(const json::object& config) {
  return json::find_bool(config, "use_bidirectional_attention").value_or(false);
}

}  // namespace
}  // namespace gemma_embedding

extern const Architecture arch_gemma_embedding;
const Architecture arch_gemma_embedding{
    "gemma-embedding",
    {"gemma3_text"},
    {"attention.sliding_window", "attention.sliding_window_pattern", "attention.scale", "attn_logit_softcapping",
     "final_logit_softcapping", "rope.freq_base_swa", "attention.causal"},
    gemma_embedding::refine,
    listed<gemma_embedding::make>,
    made<gemma_embedding::make>,
    gemma_embedding::from_hf,
    {},
    gemma_embedding::matches};

}  // namespace llorch::arch
