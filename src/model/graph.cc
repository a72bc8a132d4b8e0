#include "model/graph.h"

#include <algorithm>
#include <set>

namespace llorch {

namespace {

Memory memory_of(const Block& block) {
  return std::visit(
      [](const auto& mixer) {
        if constexpr (requires { mixer.remembers(); })
          return mixer.remembers();
        else
          return Memory();
      },
      block.mixer);
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

/// A layer whose keys others use keeps what the widest of them sees; a window of all positions is none.
std::vector<CacheLayer> Graph::cache_layers() const {
  std::vector<CacheLayer> layers = layers_of<CacheLayer>(blocks);
  const std::vector<int> indices = cache_indices();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto* a = std::get_if<SoftmaxAttention>(&blocks[i].mixer);
    if (!a) continue;
    int& window = layers[static_cast<std::size_t>(indices[i])].window;
    window = window == 0 || a->window == 0 ? 0 : std::max(window, a->window);
  }
  for (CacheLayer& layer : layers)
    if (layer.window >= context) layer.window = 0;
  return layers;
}

std::vector<int> Graph::cache_windows() const {
  std::set<int> windows{0};
  for (const CacheLayer& layer : cache_layers()) windows.insert(layer.window);
  return {windows.begin(), windows.end()};
}

std::vector<SlotLayer> Graph::slot_layers() const { return layers_of<SlotLayer>(blocks); }

std::vector<int> Graph::cache_indices() const {
  std::vector<int> indices;
  int next_cache = 0, next_slot = 0;
  for (const Block& block : blocks) {
    const auto* shared = std::get_if<SoftmaxAttention>(&block.mixer);
    if (shared && shared->cache_of >= 0)
      indices.push_back(indices[static_cast<std::size_t>(shared->cache_of)]);
    else if (std::holds_alternative<SlotLayer>(memory_of(block)))
      indices.push_back(next_slot++);
    else
      indices.push_back(std::holds_alternative<CacheLayer>(memory_of(block)) ? next_cache++ : -1);
  }
  return indices;
}

}  // namespace llorch
