// Products by a CBLAS: OpenBLAS, or Apple's Accelerate.
#pragma once

#include "device/cpu/product_provider.h"

namespace llorch {

/// The CBLAS that this build was made with, each call on its caller's thread alone; lives as long as the program.
[[nodiscard]] const ProductProvider& cblas_products();

}  // namespace llorch
