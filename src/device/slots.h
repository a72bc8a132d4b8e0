// What both devices of the host keep of convolutions: in each slot the last inputs of a sequence, by position; in each
// checkpoint those before a border.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
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
  /// Of a checkpoint, its bytes in a layer.
  [[nodiscard]] std::span<std::byte> checkpoint_bytes(int layer, std::int32_t checkpoint) const {
    const auto numbers = static_cast<std::size_t>(layers_[static_cast<std::size_t>(layer)].checkpoint);
    return std::as_writable_bytes(std::span(this->checkpoint(layer, checkpoint), numbers));
  }

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
  [[nodiscard]] std::size_t content_bytes(int group) const override {
    std::size_t bytes = 0;
    each_part(group, 0, [&](std::span<std::byte> part) { bytes += part.size(); });
    return bytes;
  }
  Status read_content(int group, std::int32_t index, std::span<std::byte> to) const override {
    each_part(group, index, [&](std::span<std::byte> part) {
      std::ranges::copy(part, to.begin());
      to = to.subspan(part.size());
    });
    return {};
  }
  Status write_content(int group, std::int32_t index, std::span<const std::byte> from) override {
    each_part(group, index, [&](std::span<std::byte> part) {
      std::ranges::copy(from.first(part.size()), part.begin());
      from = from.subspan(part.size());
    });
    return {};
  }

 protected:
  using Visit = std::function<void(std::span<std::byte> part)>;
  /// The pieces of a page in a layer of its group, always in the same order.
  virtual void each_piece(int layer, std::int32_t page, const Visit& visit) const = 0;
  /// Of a checkpoint, what a recurrence keeps in a slot layer.
  [[nodiscard]] virtual std::span<std::byte> state_of(int layer, std::int32_t checkpoint) const = 0;

 private:
  void each_part(int group, std::int32_t index, const Visit& visit) const {
    if (group == kCheckpoints) {
      for (int layer = 0; layer < static_cast<int>(shape().slot_layers.size()); ++layer) {
        visit(inputs_.checkpoint_bytes(layer, index));
        visit(state_of(layer, index));
      }
      return;
    }
    for (int layer = 0; layer < static_cast<int>(shape().layers.size()); ++layer)
      if (shape().group_of(layer) == static_cast<std::size_t>(group)) each_piece(layer, index, visit);
  }

  SlotMemory<float> inputs_;
};

}  // namespace llorch
