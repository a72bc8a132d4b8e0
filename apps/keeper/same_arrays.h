// Are two arrays the same, bit for bit? If not: in what, and where first.
#pragma once

#include <string>

#include "format/npy.h"

namespace llorch::keeper {

struct ArrayDifference {
  bool same = false;
  std::string text;       // for people, one line a fact
  std::size_t first = 0;  // flat index of the first value that differs
  std::size_t count = 0;  // of values that differ; 0 where types or shapes do
};
[[nodiscard]] ArrayDifference compare_arrays(const NpyArray& a, const NpyArray& b);

}  // namespace llorch::keeper
