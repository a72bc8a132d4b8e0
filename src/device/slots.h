// What both devices of the host keep of convolutions: in each slot the last inputs of a sequence, by position; in each
// checkpoint those before a border.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/aligned_buffer.h"
#include "device/cache.h"

namespace llorch {

/// Numbers of type T for each layer, slot and checkpoint, as many as two functions of the layer say; zeros at first.
template<class T>
class SlotMemory {
 public:
  using Size = std::int64_t (*)(const SlotLayer&);
  [[nodiscard]] static Result<SlotMemory> make(const CacheShape& shape, Size of_slot, Size of_checkpoint) {
    SlotMemory m;
    std::int64_t numbers = 0;
    for (const SlotLayer& layer : shape.slot_layers) {
      const Layer& at = m.layers_.emplace_back(Layer{numbers, of_slot(layer), of_checkpoint(layer), shape.slots});
      numbers += at.slot * shape.slots + at.checkpoint * shape.checkpoints;
    }
    LLORCH_TRY(m.memory_, AlignedBuffer::make(static_cast<std::size_t>(numbers) * sizeof(T)));
    return m;
  }
  [[nodiscard]] T* slot(int layer, std::int32_t slot) const {
    const Layer& at = layers_[static_cast<std::size_t>(layer)];
    return data() + at.first + at.slot * slot;
  }
  [[nodiscard]] T* checkpoint(int layer, std::int32_t checkpoint) const {
    const Layer& at = layers_[static_cast<std::size_t>(layer)];
    return data() + at.first + at.slot * at.slots + at.checkpoint * checkpoint;
  }
  [[nodiscard]] std::size_t bytes() const { return memory_.size(); }

 private:
  struct Layer {
    std::int64_t first, slot, checkpoint;
    int slots;
  };
  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  std::vector<Layer> layers_;
  AlignedBuffer memory_;
};

class HostCache : public Cache {
 public:
  HostCache(CacheShape shape, SlotMemory<float> inputs) : Cache(std::move(shape)), inputs_(std::move(inputs)) {}
  [[nodiscard]] static Result<SlotMemory<float>> make_inputs(const CacheShape& shape) {
    return SlotMemory<float>::make(
        shape, [](const SlotLayer& l) { return std::int64_t{l.kept()} * l.channels; },
        [](const SlotLayer& l) { return std::int64_t{l.tail()} * l.channels; });
  }
  [[nodiscard]] const SlotMemory<float>& inputs() const { return inputs_; }
  [[nodiscard]] const SlotLayer& slot_layer(int layer) const {
    return shape().slot_layers[static_cast<std::size_t>(layer)];
  }

 private:
  SlotMemory<float> inputs_;
};

}  // namespace llorch
