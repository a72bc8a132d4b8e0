// Granite with sliding and full layers, some of them without rotation, and attention sinks.
#include "arch/granite.h"

namespace llorch::arch {
namespace granite_swa {
namespace {

constexpr const char* kPrefix = "granite_swa.";

Status refine(const Metadata& m, Hyper& h) {
  LLORCH_OK(granite::refine(m, kPrefix, h));
  LLORCH_OK(read_windows(m, kPrefix, 1, h));
  LLORCH_TRY(h.unturned, read_pattern(m, std::string(kPrefix) + "attention.rope_pattern", h.layers));
  h.unturned.flip();
  return {};
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  granite::make_ends(m, h, graph);
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    Block b = make_block(m, h, l, granite::attention_form());
    if (h.is_unturned(l)) attention(b).rope = -1;
    attention(b).sinks = m.vector("attn_sinks.weight", "self_attn.sinks", {h.heads});
    graph.blocks.push_back(std::move(b));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  const std::string p = kPrefix;
  LLORCH_OK(granite::from_hf(config, p, out));
  LLORCH_OK(hf_copy_integer(config, "sliding_window", p + "attention.sliding_window", out));
  out.set(p + "attention.sliding_window_pattern", pattern_value(hf_layers(config, "sliding_attention")));
  const json::array* turned = json::find_array(config, "no_rope_layers");  // 1: a layer with rotation
  if (!turned) return {};
  MetaValue::Integers pattern;
  for (const json::value& v : *turned) pattern.push_back(json::as_unsigned(v).value_or(2) == 1);
  out.set(p + "attention.rope_pattern", {MetaType::kArray, MetaType::kBool, std::move(pattern)});
  return {};
}

}  // namespace
}  // namespace granite_swa

extern const Architecture arch_granite_swa;
const Architecture arch_granite_swa{
    "granite_swa",
    {"granite_swa"},
    {"embedding_scale", "attention.scale", "residual_scale", "logit_scale", "attention.sliding_window",
     "attention.sliding_window_pattern", "attention.rope_pattern"},
    granite_swa::refine,
    listed<granite_swa::make>,
    made<granite_swa::make>,
    granite_swa::from_hf,
    {}};

}  // namespace llorch::arch
