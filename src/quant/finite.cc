
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "quant/nvfp4.h"
#include "quant/table.h"

namespace llorch::quant {
namespace {

/// The first word whose bits of `exponent` are all set.
template<class Word, Word exponent>
std::optional<std::uint64_t> first_full(std::span<const std::byte> bytes) {
  constexpr std::size_t kRun = 4096 / sizeof(Word);  // that is looked at without a branch
  const std::size_t words = bytes.size() / sizeof(Word);
  const auto at = [&](std::size_t i) {
    Word w;
    std::memcpy(&w, bytes.data() + i * sizeof w, sizeof w);
    return w;
  };
  for (std::size_t run = 0; run < words; run += kRun) {
    const std::size_t end = run + kRun < words ? run + kRun : words;
    Word any = 0;
    for (std::size_t i = run; i < end; ++i) any |= static_cast<Word>((at(i) & exponent) == exponent);
    for (std::size_t i = run; any && i < end; ++i)
      if ((at(i) & exponent) == exponent) return i;
  }
  return std::nullopt;
}

/// Whether a block's scales are bytes, and one of them is NaN, which decodes to a number.
bool is_nan_byte(DType type, const std::uint8_t* block) {
  if (type == DType::kNVFP4) return std::ranges::any_of(std::span(block, 4), NVFP4::is_nan);
  return type == DType::kMXFP4 && *block == 0xff;
}

}  // namespace

Status check_finite(const TensorView& tensor, std::span<const std::byte> rows, std::uint64_t first_row) {
  std::optional<std::uint64_t> value;
  switch (tensor.type) {
    case DType::kF32: value = first_full<std::uint32_t, 0x7f800000>(rows); break;
    case DType::kF16: value = first_full<std::uint16_t, 0x7c00>(rows); break;
    case DType::kBF16: value = first_full<std::uint16_t, 0x7f80>(rows); break;
    default: {
      const RowOps* ops = find_row_ops(tensor.type);
      if (!ops || !ops->scale) return {};  // no weight type: refused elsewhere
      const std::size_t step = info(tensor.type).bytes;
      const auto before = first_row * (tensor.columns() / info(tensor.type).block);
      // The factors of a block are in the scale and the minimum of each of its parts: times zero, they are NaN.
      for (std::size_t b = 0; (b + 1) * step <= rows.size(); ++b) {
        const auto* block = reinterpret_cast<const std::uint8_t*>(rows.data()) + b * step;
        const SubScale s = ops->scale(block, 0);
        const bool nan = std::isnan(s.scale) || std::isnan(s.minimum) || is_nan_byte(tensor.type, block);
        if (nan || !std::isfinite(s.scale) || !std::isfinite(s.minimum))
          return bad_model("tensor '{}': the scale of {} block {} is {}", tensor.name, info(tensor.type).name,
                           before + b, nan ? "NaN" : "infinite");
      }
      return {};
    }
  }
  if (value)
    return bad_model("tensor '{}': value {} of row {} is not finite", tensor.name, *value % tensor.columns(),
                     first_row + *value / tensor.columns());
  return {};
}

}  // namespace llorch::quant
