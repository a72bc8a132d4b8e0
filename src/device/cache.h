// What sequences remember on a device, layer by layer. Which pages belong to whom is the engine's (cache/pages.h).
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "model/state.h"

namespace llorch {

struct CacheShape {
  std::vector<CacheLayer> layers;  // those that remember
  int pages = 0;                   // of each layer
  KvPrecision precision = KvPrecision::kF16;
};

class Cache {
 public:
  explicit Cache(CacheShape shape) : shape_(std::move(shape)) {}
  virtual ~Cache() = default;
  [[nodiscard]] const CacheShape& shape() const { return shape_; }
  [[nodiscard]] virtual std::size_t bytes() const = 0;

 private:
  CacheShape shape_;
};

}  // namespace llorch
