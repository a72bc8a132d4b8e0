// The truth that fast paths are tested against: weights dequantized value by value, every sum in double and in index
// order, keys and values kept as floats whatever type was asked for. Slow on purpose.
#pragma once

#include "nn/backend.h"

namespace llorch {
[[nodiscard]] std::unique_ptr<Backend> make_reference_backend(int threads);
}
