// Bytes aligned to a page, in huge pages where the system gives them; zeroed. For weights, the KV cache and
// activations. Errors: kInsufficientMemory naming the size; nothing throws.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"

namespace llorch {

class AlignedBuffer {
 public:
  [[nodiscard]] static Result<AlignedBuffer> make(std::size_t bytes);

  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), bytes_(std::exchange(o.bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~AlignedBuffer();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Memory for many things that live together: handed out one behind the other, so that all of it lies in huge pages
/// and none is wasted between. Given back as a whole. Threads: one at a time.
class Arena {
 public:
  /// `bytes` at a multiple of 64, zeroed. Errors: kInsufficientMemory.
  [[nodiscard]] Result<std::span<std::byte>> take(std::size_t bytes);

 private:
  std::vector<AlignedBuffer> chunks_;
  std::byte* next_ = nullptr;
  std::size_t left_ = 0;
};

}  // namespace llorch
