#include "model/adapter.h"

namespace llorch {
namespace {

using Visit = std::function<void(const Linear&)>;

void visit_all(std::initializer_list<const Linear*> linears, const Visit& visit) {
  for (const Linear* l : linears)
    if (l->weight.there()) visit(*l);
}

void visit_mixer(const std::monostate&, const Visit&) {}
void visit_mixer(const SoftmaxAttention& a, const Visit& visit) {
  visit_all({&a.query, &a.key, &a.value, &a.gate, &a.output}, visit);
}
void visit_mixer(const LatentAttention& a, const Visit& visit) {
  visit_all({&a.query_down, &a.query, &a.latent, &a.output}, visit);
}
void visit_mixer(const GatedDeltaNet& m, const Visit& visit) {
  visit_all({&m.input, &m.gate, &m.beta, &m.decay, &m.output}, visit);
}
void visit_mixer(const ShortConvolution& m, const Visit& visit) {
  visit_all({&m.before, &m.after, &m.input, &m.output}, visit);
}
void visit_mixer(const Mamba2& m, const Visit& visit) { visit_all({&m.gate, &m.input, &m.step, &m.output}, visit); }

void visit_part(const std::monostate&, const Visit&) {}
void visit_part(const Mlp& m, const Visit& visit) { visit_all({&m.gate, &m.up, &m.down}, visit); }
void visit_part(const Moe& m, const Visit& visit) {
  visit_all({&m.router, &m.shared_gate}, visit);
  if (m.shared) visit_part(*m.shared, visit);
}

}  // namespace

void for_each_adaptable(const Graph& graph, const Visit& visit) {
  if (graph.layer_inputs) visit_all({&graph.layer_inputs->projection}, visit);
  for (const Block& block : graph.blocks) {
    std::visit([&](const auto& mixer) { visit_mixer(mixer, visit); }, block.mixer);
    std::visit([&](const auto& part) { visit_part(part, visit); }, block.feed_forward);
    if (block.layer_input) visit_all({&block.layer_input->gate, &block.layer_input->projection}, visit);
  }
  visit_all({&graph.head}, visit);
}

}  // namespace llorch
