// ERNIE 4.5 (dense): Llama's shape, whose neighbouring pairs turn as they are stored. Source: Baidu 2025, "ERNIE 4.5
// Technical Report".
#include "arch/blocks.h"

namespace llorch::arch {
namespace ernie4_5 {
namespace {

Status refine(const Metadata&, Hyper& h) {
  if (h.scaling.kind == "longrope") return bad_model("rope scaling 'longrope' is not supported for ernie4_5");
  return {};
}

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  make_ends(m, h, graph);
  graph.ropes.push_back(make_rope(h, true));
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l);
    graph.blocks.push_back(make_block(m, h, l, {}));
  }
}

Status from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(hf_refuse(config, {"use_bias"}));
  return hf_common(config, "ernie4_5.", out);
}

}  // namespace
}  // namespace ernie4_5

extern const Architecture arch_ernie4_5;
const Architecture arch_ernie4_5{"ernie4_5",           {"ernie4_5"},      {}, ernie4_5::refine, listed<ernie4_5::make>,
                                 made<ernie4_5::make>, ernie4_5::from_hf, {}};

}  // namespace llorch::arch
