// What sequences remember on a device, layer by layer. Which pages, slots and checkpoints belong to whom is the
// engine's (cache/).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "model/state.h"

namespace llorch {

struct CacheShape {
  std::vector<CacheLayer> layers;  // those that remember pages
  std::vector<SlotLayer> slot_layers;
  std::vector<int> windows = {0};  // of page groups
  std::vector<int> pages;          // of each layer of a group
  int slots = 1, checkpoints = 0;
  KvPrecision precision = KvPrecision::kF16;

  [[nodiscard]] std::size_t group_of(int layer) const {
    const auto at = std::ranges::find(windows, layers[static_cast<std::size_t>(layer)].window);
    return static_cast<std::size_t>(at - windows.begin());
  }
};

class Cache {
 public:
  explicit Cache(CacheShape shape) : shape_(std::move(shape)) {}
  virtual ~Cache() = default;
  [[nodiscard]] const CacheShape& shape() const { return shape_; }
  [[nodiscard]] virtual std::size_t bytes() const = 0;

  /// Bytes of one page of a group (index into shape().windows), in all its layers together, or with kCheckpoints of one
  /// checkpoint. The same for every page; what they mean is the device's.
  [[nodiscard]] virtual std::size_t content_bytes(int group) const = 0;
  /// Between steps; `to` and `from` have content_bytes(). Errors: of the device; what was to be copied is lost then.
  [[nodiscard]] virtual Status read_content(int group, std::int32_t index, std::span<std::byte> to) const = 0;
  [[nodiscard]] virtual Status write_content(int group, std::int32_t index, std::span<const std::byte> from) = 0;
  static constexpr int kCheckpoints = -1;

 private:
  CacheShape shape_;
};

}  // namespace llorch
