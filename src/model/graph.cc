#include "model/graph.h"

namespace llorch {

namespace {

Memory memory_of(const Block& block) {
  return std::visit([](const auto& mixer) { return mixer.remembers(); }, block.mixer);
}

template<class Layer>
std::vector<Layer> layers_of(const std::vector<Block>& blocks) {
  std::vector<Layer> layers;
  for (const Block& block : blocks)
    if (const Memory memory = memory_of(block); std::holds_alternative<Layer>(memory))
      layers.push_back(std::get<Layer>(memory));
  return layers;
}

}  // namespace

std::vector<CacheLayer> Graph::cache_layers() const { return layers_of<CacheLayer>(blocks); }
std::vector<SlotLayer> Graph::slot_layers() const { return layers_of<SlotLayer>(blocks); }

std::vector<int> Graph::cache_indices() const {
  std::vector<int> indices;
  int next_cache = 0, next_slot = 0;
  for (const Block& block : blocks) {
    const auto* shared = std::get_if<SoftmaxAttention>(&block.mixer);
    if (shared && shared->cache_of >= 0)
      indices.push_back(indices[static_cast<std::size_t>(shared->cache_of)]);
    else
      indices.push_back(std::holds_alternative<SlotLayer>(memory_of(block)) ? next_slot++ : next_cache++);
  }
  return indices;
}

}  // namespace llorch
