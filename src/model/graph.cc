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
    const auto* shared = std::get_if<SoftmaxAttention>(&block.mixer);
    const int of = shared ? shared->cache_of : -1;
    indices.push_back(of < 0 ? next++ : indices[static_cast<std::size_t>(of)]);
  }
  return indices;
}

}  // namespace llorch
