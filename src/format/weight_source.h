// Where a model comes from: metadata in GGUF's vocabulary and named tensors, whatever the file format.
//
// Ownership: what tensors name lives as long as the source. A tensor's span may name bytes of a file, which are not in
// memory: read() copies them. Threads: reading is safe from any thread.
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

  /// Copies some of a tensor's bytes. Errors: kModelChanged.
  [[nodiscard]] virtual Status read(std::span<const std::byte> part, std::byte* to) const {
    if (!part.empty()) std::memcpy(to, part.data(), part.size());
    return {};
  }
  /// All of them.
  [[nodiscard]] Result<std::vector<std::byte>> bytes_of(const TensorView& tensor) const {
    std::vector<std::byte> bytes(tensor.data.size());
    LLORCH_OK(read(tensor.data, bytes.data()));
    return bytes;
  }
  /// Whether the file that holds these bytes (all files, where there are none) is what it was when it was opened.
  /// Threads: one at a time. Errors: kModelChanged.
  [[nodiscard]] virtual Status unchanged(std::span<const std::byte>) { return {}; }

 protected:
  Metadata metadata_;
  std::vector<TensorView> tensors_;
};

}  // namespace llorch
