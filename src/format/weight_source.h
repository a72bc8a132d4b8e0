// Where a model comes from: metadata in GGUF's vocabulary and named tensors, whatever the file format.
//
// Ownership: tensor bytes live as long as the source. Threads: reading is safe from any thread.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "format/metadata.h"
#include "tensor/tensor.h"

namespace llorch {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  [[nodiscard]] const Metadata& metadata() const { return metadata_; }
  [[nodiscard]] const std::vector<TensorView>& tensors() const { return tensors_; }
  [[nodiscard]] const TensorView* find(std::string_view name) const;

  /// The bytes were copied elsewhere: their pages may be given back.
  virtual void release(const TensorView&) const {}
  /// Copies some of a tensor's bytes; from a file without its pages.
  virtual void copy(std::span<const std::byte> part, std::byte* to) const { std::memcpy(to, part.data(), part.size()); }

 protected:
  Metadata metadata_;
  std::vector<TensorView> tensors_;
};

}  // namespace llorch
