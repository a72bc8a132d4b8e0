// Pages and slots in device memory.
#pragma once

#include <vector>

#include "cuda/kernel/cache.h"
#include "device/cache.h"
#include "device/cuda/cuda_memory.h"

namespace llorch {

class CudaCache final : public Cache {
 public:
  /// All zeros. Errors: kVramOom, kInsufficientMemory.
  [[nodiscard]] static Result<std::unique_ptr<CudaCache>> make(std::shared_ptr<CudaContext> context,
                                                               const CacheShape& shape);
  [[nodiscard]] std::size_t bytes() const override { return memory_.bytes(); }
  [[nodiscard]] std::size_t content_bytes(int group) const override;
  Status read_content(int group, std::int32_t index, std::span<std::byte> to) const override;
  Status write_content(int group, std::int32_t index, std::span<const std::byte> from) override;

  [[nodiscard]] const cuda::KvLayer& layer(int index) const { return layers_[static_cast<std::size_t>(index)]; }
  [[nodiscard]] const SlotLayer& slot_layer(int index) const {
    return shape().slot_layers[static_cast<std::size_t>(index)];
  }
  /// Of one slot layer: floats of each slot and checkpoint lie together.
  struct Slots {
    float *inputs, *input_checkpoints;  // (slots, kept, channels), (checkpoints, tail, channels)
    float *states, *state_checkpoints;
    std::int64_t slot_floats, checkpoint_floats;  // of states
  };
  [[nodiscard]] const Slots& slots(int index) const { return slots_[static_cast<std::size_t>(index)]; }

 private:
  CudaCache(std::shared_ptr<CudaContext> context, const CacheShape& shape)
      : Cache(shape), context_(std::move(context)) {}
  struct Piece {
    void* at;
    std::size_t bytes;
  };
  /// Of one page of a group, or of one checkpoint.
  [[nodiscard]] std::vector<Piece> pieces(int group, std::int32_t index) const;

  std::shared_ptr<CudaContext> context_;
  CountedMemory memory_;
  PinnedBytes content_;  // of one page or checkpoint: a copy to or from other memory would wait without a limit
  std::vector<cuda::KvLayer> layers_;
  std::vector<Slots> slots_;
};

}  // namespace llorch
