// Passes over a whole vocabulary, as long as 200,000 logits, for every token that is sampled: vectors, nothing sorted,
// nothing allocated. Results are the same bits on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace llorch::vocabulary {

constexpr std::size_t kBlock = 64;  // values that share a sum or a maximum
constexpr std::size_t kGroup = 64;  // blocks that share a sum: what a CUDA kernel sums at once (cuda/kernel/draw.h)

/// Multiplies all values by `factor`; then the largest of each block. `blocks` is resized. Returns the largest of all.
float scale(std::span<float> values, float factor, std::vector<float>& blocks);

/// The largest of the block of value i, again.
void renew_block(std::span<const float> values, std::size_t i, std::vector<float>& blocks);

/// -infinity for each value i whose bit i % 32 of word i / 32 is not set, or that lies behind the last word. `blocks`:
/// of scale(), and renewed.
void forbid_others(std::span<const std::uint32_t> bits, std::span<float> values, std::vector<float>& blocks);

/// Copies values, multiplied as scale() does; nothing when one is not finite.
[[nodiscard]] std::optional<float> copy_finite_scaled(std::span<const float> values, float factor,
                                                      std::vector<float>& out, std::vector<float>& blocks);

/// The k-th largest value, 1 <= k <= values.size(). `blocks`: of scale(); `scratch` is overwritten.
[[nodiscard]] float kth_largest(std::span<const float> values, std::span<const float> blocks, std::size_t k,
                                std::vector<float>& scratch);

/// Calls take(index) for every value that is not below `least`, in order.
template<class Take>
void for_each_from(std::span<const float> values, std::span<const float> blocks, float least, const Take& take) {
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    if (blocks[b] < least) continue;
    const std::size_t end = values.size() < (b + 1) * kBlock ? values.size() : (b + 1) * kBlock;
    for (std::size_t i = b * kBlock; i < end; ++i)
      if (values[i] >= least) take(i);
  }
}

/// out[i] = e^(values[i] - top), to 1e-12 of it, zero below e^-700; top is not below any value. The sum of each block;
/// both are resized. Returns the sum of all: that of the groups' sums.
double exponentials(std::span<const float> values, float top, std::vector<double>& out, std::vector<double>& blocks);

/// The sum of the group whose first block is `first`, of exponentials()' blocks.
[[nodiscard]] double group_sum(std::span<const double> blocks, std::size_t first);

}  // namespace llorch::vocabulary
