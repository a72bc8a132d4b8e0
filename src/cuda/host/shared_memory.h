// The shared memory of one block: poisoned before it runs, with a guard at each end. Under ASan the guards must not be
// touched at all; without, what was written there is seen after the block.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace llorch::cuda::host {

class SharedMemory {
 public:
  /// For launches with so many bytes.
  void resize(std::size_t bytes);
  void poison_all();
  [[nodiscard]] bool contains(const void* at, std::size_t bytes) const;
  /// What was written outside, or nothing.
  [[nodiscard]] std::optional<std::string> overrun() const;

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  ~SharedMemory();

 private:
  void open_guards();

  std::vector<std::byte> memory_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace llorch::cuda::host
