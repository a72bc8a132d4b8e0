// Matrices in device memory, packed for products (cuda/kernel/product.h). The one place that knows how they are packed.
#pragma once

#include "cuda/kernel/product.h"
#include "device/cuda/cuda_memory.h"
#include "device/device.h"

namespace llorch {

class CudaWeight final : public Weight {
 public:
  CudaWeight(const cuda::Matrix& packed, CountedMemory memory)
      : Weight(packed.rows, packed.columns, packed.parts, static_cast<std::int64_t>(memory.bytes())),
        matrix(packed),
        memory_(std::move(memory)) {}
  cuda::Matrix matrix;

 private:
  CountedMemory memory_;
};

/// Errors: kModelLoadFailed (a type that no weight has, a value that is not finite), kVramOom, those of reading.
[[nodiscard]] Result<std::unique_ptr<CudaWeight>> pack_weight(const std::shared_ptr<CudaContext>& context,
                                                              const TensorView& tensor, std::int64_t parts,
                                                              const Device::Read& read);

}  // namespace llorch
