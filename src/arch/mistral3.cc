// Ministral 3 and Mistral 3: Llama's shape with YaRN; queries grow with their position, as in Llama 4. Source: Mistral
// AI 2025, "Ministral 3".
#include "arch/blocks.h"

namespace llorch::arch {
namespace mistral3 {
namespace {

constexpr const char* kPrefix = "mistral3.";

Status refine(const Metadata& m, Hyper& h) {
  const std::string p = kPrefix;
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for mistral3");
  LLORCH_OK(read_log_multiplier(m, p, h));
  LLORCH_TRY(h.query_growth, m.number_or(p + "attention.temperature_scale", 0));
  if (!(h.query_growth >= 0 && h.query_growth < 100))
    return bad_model("'{}attention.temperature_scale' is {}", p, h.query_growth);
  return {};
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  RopeSpec of_queries = make_rope(h, true);
  of_queries.growth = h.query_growth, of_queries.growth_every = h.scaling.original_context;
  graph.ropes = {make_rope(h, true), of_queries};
  AttentionForm form;
  form.permuted = true;
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b = make_block(m, h, l, form);
    attention(b).query_rope = 1;
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(hf_refuse(config, {"sliding_window", "attention_bias", "mlp_bias"}));
  LLORCH_OK(hf_common(config, p, out));
  const json::object* rope = json::find_object(config, "rope_parameters");
  if (!rope) return {};
  LLORCH_OK(hf_log_multiplier(*rope, 1, p, out));
  return hf_copy_number(*rope, "llama_4_scaling_beta", p + "attention.temperature_scale", out, false);
}

}  // namespace
}  // namespace mistral3

extern const Architecture arch_mistral3;
const Architecture arch_mistral3{"mistral3",
                                 {"ministral3"},
                                 {"rope.scaling.yarn_log_multiplier", "attention.temperature_scale"},
                                 mistral3::refine,
                                 listed<mistral3::make>,
                                 made<mistral3::make>,
                                 mistral3::from_hf,
                                 {}};

}  // namespace llorch::arch
