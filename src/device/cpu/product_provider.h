// Matrix products from a library in place of the kernels' own (device/accelerate/).
//
// There is one product, of one shape: how many rows are computed, by how many threads and of what size a weight is
// changes how often it is asked for, and never what a library does inside. A library may sum in an order of its own,
// which may be another one on another machine; it must be the same in every place of the shape, and a row's result must
// not depend on other rows. check_products() sees to both before a device is made.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace llorch {

class ProductProvider {
 public:
  /// Few rows, for one alone costs as much as all. OpenBLAS computes products of this size without copying them first.
  static constexpr int kRows = 4, kOutputs = 64, kColumns = 256;

  virtual ~ProductProvider() = default;
  /// Of the library, as `isa` shows it behind the kernels' name: "openblas".
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// What its sums may depend on besides: version, kernels in use.
  [[nodiscard]] virtual std::string version() const { return {}; }
  /// out (kRows, kOutputs) += x (kRows, kColumns) times weight (kOutputs, kColumns) transposed: row behind row, at
  /// multiples of 64 bytes. On the calling thread alone; from several threads at once.
  virtual void add_product(const float* x, const float* weight, float* out) const = 0;
};

/// Whether products are right, and do not depend on the place or on neighbours. Errors: kDeviceNotFound, naming the
/// library and what differs.
[[nodiscard]] Status check_products(const ProductProvider& products);

}  // namespace llorch
