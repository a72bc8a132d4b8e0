#include "model/graph.h"

namespace llorch {

std::vector<CacheLayer> Graph::cache_layers() const {
  std::vector<CacheLayer> layers;
  for (const Block& block : blocks)
    if (const auto layer = std::visit([](const auto& mixer) { return mixer.remembers(); }, block.mixer))
      layers.push_back(*layer);
  return layers;
}

std::vector<int> Graph::cache_indices() const {
  std::vector<int> indices;
  int next = 0;
  for (const Block& block : blocks) {
    const auto& attention = std::get<SoftmaxAttention>(block.mixer);
    indices.push_back(attention.cache_of < 0 ? next++ : indices[static_cast<std::size_t>(attention.cache_of)]);
  }
  return indices;
}

}  // namespace llorch
