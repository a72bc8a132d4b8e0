// Llama 1 to 3, Mistral, TinyLlama: RMSNorm, rotary embedding on adjacent pairs, grouped-query attention, SwiGLU.
// Llama 3.1's frequency factors come as the tensor rope_freqs.weight. Source: Touvron et al. 2023; Grattafiori et al.
// 2024.
#include <cmath>

#include "arch/blocks.h"

namespace llorch::arch {
namespace {

Status refine(const Metadata& m, Hyper& h) {
  LLORCH_TRY(const auto experts, m.integer_in("llama.expert_count", 0, 1024, 0));
  if (experts > 0) return bad_model("mixtures of experts of the llama family are not supported");
  LLORCH_TRY(const auto window, m.integer_in("llama.attention.sliding_window", 0, 1u << 24, 0));
  h.window = static_cast<int>(window);
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for llama");
  return {};
}

std::vector<TensorSpec> tensors(const Hyper& h) {
  std::vector<TensorSpec> list;
  add_ends(list, h);
  list.push_back({"rope_freqs.weight", {static_cast<std::uint64_t>(h.rotated / 2)}, "", SynthKind::kFactors, false});
  for (int l = 0; l < h.layers; ++l) {
    add_attention(list, h, l, false, false, HfLayout::kRotaryPairs);
    add_gated_mlp(list, h, l);
  }
  return list;
}

Result<Graph> assemble(const Hyper& h, Builder& in) {
  Graph graph;
  LLORCH_OK(assemble_ends(h, in, graph));
  RopeSpec rope = make_rope(h, true);
  if (in.has("rope_freqs.weight")) {
    LLORCH_TRY(const std::vector<float> factors, in.values("rope_freqs.weight"));
    for (std::size_t i = 0; i < factors.size(); ++i) {
      if (!(factors[i] > 0))
        return bad_model("tensor 'rope_freqs.weight' holds {}, factors must be positive", factors[i]);
      rope.frequencies[i] /= static_cast<double>(factors[i]);
    }
  }
  graph.ropes.push_back(std::move(rope));
  for (int l = 0; l < h.layers; ++l) {
    LLORCH_TRY(Block b, assemble_block(h, in, l));
    attention(b).window = h.window;
    graph.blocks.push_back(std::move(b));
  }
  return graph;
}

Status from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(hf_common(config, "llama.", out));
  if (json::find_bool(config, "attention_bias").value_or(false) || json::find_bool(config, "mlp_bias").value_or(false))
    return bad_model("config.json: attention_bias and mlp_bias are not supported for llama");
  LLORCH_OK(hf_copy_integer(config, "sliding_window", "llama.attention.sliding_window", out, false));
  return {};
}

}  // namespace

extern const Architecture arch_llama;
const Architecture arch_llama{"llama",
                              {"llama", "mistral"},
                              {"expert_count", "expert_used_count", "attention.sliding_window"},
                              refine,
                              tensors,
                              assemble,
                              from_hf,
                              {"rotary_emb.inv_freq"}};

}  // namespace llorch::arch
