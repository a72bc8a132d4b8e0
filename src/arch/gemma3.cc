// Gemma 3: five sliding layers for each full one, each kind with a rotary base of its own; norms of query and key
// heads. Source: Gemma Team 2025, "Gemma 3 Technical Report".
#include "arch/gemma.h"

namespace llorch::arch {
namespace gemma3 {
namespace {

constexpr const char* kPrefix = "gemma3.";
constexpr gemma::Form kForm{6, 62, true};

Status refine(const Metadata& m, Hyper& h) { return gemma::refine(m, kPrefix, kForm, h); }
void make(const Hyper& h, PartMaker& m, Graph& graph) { gemma::make(h, m, graph, kForm); }
Status from_hf(const json::object& config, Metadata& out) { return gemma::from_hf(config, kPrefix, out); }
bool matches(const json::object& config) {
  return !json::find_bool(config, "use_bidirectional_attention").value_or(false);
}

}  // namespace
}  // namespace gemma3

extern const Architecture arch_gemma3;
const Architecture arch_gemma3{"gemma3",
                               {"gemma3_text"},
                               {"attention.sliding_window", "attention.sliding_window_pattern", "attention.scale",
                                "attn_logit_softcapping", "final_logit_softcapping", "rope.freq_base_swa"},
                               gemma3::refine,
                               listed<gemma3::make>,
                               made<gemma3::make>,
                               gemma3::from_hf,
                               {},
                               gemma3::matches};

}  // namespace llorch::arch
