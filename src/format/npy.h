// NumPy's .npy: writes arrays of float32 (version 1.0), reads arrays of plain numbers. Source: numpy.lib.format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace llorch {

[[nodiscard]] Status write_npy(const std::string& path, std::span<const float> values,
                               const std::vector<std::int64_t>& shape);

/// A view into a file's bytes.
struct NpyArray {
  std::string type;  // as NumPy writes it: little-endian "<f4", "|i1", ...
  std::vector<std::int64_t> shape;
  std::size_t item_bytes = 0;
  std::span<const std::byte> data;
  [[nodiscard]] std::size_t values() const { return data.size() / item_bytes; }
};
/// `path` is for messages. Errors: kModelLoadFailed, for what is no such file, truncated, or an array of something else
/// than little-endian numbers in C order.
[[nodiscard]] Result<NpyArray> parse_npy(std::span<const std::byte> bytes, std::string_view path);

}  // namespace llorch
