// Writes arrays of float32 as NumPy's .npy, version 1.0. Source: numpy.lib.format.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace llorch {
[[nodiscard]] Status write_npy(const std::string& path, std::span<const float> values,
                               const std::vector<std::int64_t>& shape);
}
