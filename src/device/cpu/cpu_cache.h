// Pages and slots in the CPU's memory, as kernels take them.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "device/slots.h"
#include "kernel/kernels.h"

namespace llorch {

/// Pages of one layer and head lie together.
class CpuCache final : public HostCache {
 public:
  struct Layer {
    kernel::KvLayout layout;
    std::int64_t first;  // byte
    int pages;
  };
  CpuCache(CacheShape shape, SlotMemory<float> inputs, SlotMemory<float> states, std::vector<Layer> layers,
           AlignedBuffer memory)
      : HostCache(std::move(shape), std::move(inputs)),
        states_(std::move(states)),
        layers_(std::move(layers)),
        memory_(std::move(memory)) {}
  [[nodiscard]] const kernel::KvLayout& layout(int layer) const {
    return layers_[static_cast<std::size_t>(layer)].layout;
  }
  [[nodiscard]] std::uint8_t* page(int layer, int head, std::int32_t page) const {
    const Layer& of = layers_[static_cast<std::size_t>(layer)];
    const std::int64_t index = static_cast<std::int64_t>(head) * of.pages + page;
    return reinterpret_cast<std::uint8_t*>(memory_.data()) + of.first + index * of.layout.page_bytes;
  }
  [[nodiscard]] std::size_t bytes() const override { return memory_.size() + inputs().bytes() + states_.bytes(); }

  /// A slot: of each value head its state (key_dim, stride), then of each what 64 positions add (64, stride), then of
  /// each their decays (64), then of each key head their keys (key_dim, 64). A checkpoint: the states.
  [[nodiscard]] static Result<SlotMemory<float>> make_states(const CacheShape& shape) {
    return SlotMemory<float>::make(
        shape, [](const SlotLayer& l) { return l.floats() - std::int64_t{l.kept()} * l.channels; },
        [](const SlotLayer& l) { return l.state_floats(); });
  }
  [[nodiscard]] float* state(int layer, std::int32_t slot, std::int64_t head) const {
    const SlotLayer& l = slot_layer(layer);
    return states_.slot(layer, slot) + head * l.key_dim * l.value_stride();
  }
  [[nodiscard]] float* added(int layer, std::int32_t slot, std::int64_t head) const {
    const SlotLayer& l = slot_layer(layer);
    return states_.slot(layer, slot) + l.state_floats() + head * SlotLayer::kBlock * l.value_stride();
  }
  [[nodiscard]] float* decays(int layer, std::int32_t slot, std::int64_t head) const {
    return added(layer, slot, slot_layer(layer).value_heads) + head * SlotLayer::kBlock;
  }
  [[nodiscard]] float* keys(int layer, std::int32_t slot, std::int64_t key_head) const {
    const SlotLayer& l = slot_layer(layer);
    return decays(layer, slot, l.value_heads) + key_head * l.key_dim * SlotLayer::kBlock;
  }
  [[nodiscard]] float* checkpoint(int layer, std::int32_t checkpoint, std::int64_t head) const {
    const SlotLayer& l = slot_layer(layer);
    return states_.checkpoint(layer, checkpoint) + head * l.key_dim * l.value_stride();
  }

 private:
  void each_piece(int layer, std::int32_t number, const Visit& visit) const override {
    const auto bytes = static_cast<std::size_t>(layout(layer).page_bytes);
    for (int head = 0; head < shape().layers[static_cast<std::size_t>(layer)].kv_heads; ++head)
      visit(std::as_writable_bytes(std::span(page(layer, head, number), bytes)));
  }
  [[nodiscard]] std::span<std::byte> state_of(int layer, std::int32_t checkpoint) const override {
    return states_.checkpoint_bytes(layer, checkpoint);
  }

  SlotMemory<float> states_;
  std::vector<Layer> layers_;
  AlignedBuffer memory_;
};

}  // namespace llorch
