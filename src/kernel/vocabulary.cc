#include "kernel/vocabulary.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>

#include "kernel/exponential.h"

namespace llorch::vocabulary {
namespace {

// Eight lanes, whatever the machine has: the same operations in the same order on all of them, and none is fused.
using Doubles = double __attribute__((vector_size(64)));
using Integers = std::int64_t __attribute__((vector_size(64)));
using Floats = float __attribute__((vector_size(32)));
using Bits = std::int32_t __attribute__((vector_size(32)));
constexpr std::size_t kLanes = 8;
static_assert(kBlock % kLanes == 0);

#define LLORCH_INLINE [[gnu::always_inline]] inline

template<class V>
LLORCH_INLINE V load(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

LLORCH_INLINE void exponentials_of(const float* values, std::size_t n, float top, double* out, double* blocks) {
  for (std::size_t b = 0; b * kBlock < n; ++b) {
    Doubles sum{};
    const std::size_t end = std::min(n, (b + 1) * kBlock);
    for (std::size_t i = b * kBlock; i < end; i += kLanes) {
      float tail[kLanes];
      const float* from = values + i;
      if (i + kLanes > end) {
        for (std::size_t j = 0; j < kLanes; ++j)
          tail[j] = i + j < end ? values[i + j] : -std::numeric_limits<float>::infinity();
        from = tail;
      }
      const Doubles e = exponential<Doubles, Integers>(__builtin_convertvector(load<Floats>(from), Doubles) -
                                                       static_cast<double>(top));
      std::memcpy(out + i, &e, (std::min(end - i, kLanes)) * sizeof(double));
      sum += e;
    }
    double total = 0;
    for (std::size_t j = 0; j < kLanes; ++j) total += sum[j];
    blocks[b] = total;
  }
}

LLORCH_INLINE bool scale_of(const float* values, std::size_t n, float factor, float* out, float* blocks) {
  Bits bad{};
  bool good = true;
  for (std::size_t b = 0; b * kBlock < n; ++b) {
    const float* at = values + b * kBlock;
    float* to = out + b * kBlock;
    const std::size_t end = std::min(n - b * kBlock, kBlock);
    if (end < kBlock) {
      for (std::size_t i = 0; i < end; ++i) good &= std::isfinite(at[i]), to[i] = at[i] * factor;
      blocks[b] = *std::max_element(to, to + end);
      continue;
    }
    Floats most = load<Floats>(at) * factor;
    for (std::size_t i = 0; i < kBlock; i += kLanes) {
      const Floats raw = load<Floats>(at + i), x = raw * factor;
      bad |= raw * 0.0f != Floats{};  // NaN, from infinities too
      std::memcpy(to + i, &x, sizeof x);
      most = x > most ? x : most;
    }
    float lane[kLanes];
    std::memcpy(lane, &most, sizeof lane);
    blocks[b] = *std::max_element(lane, lane + kLanes);
  }
  for (std::size_t j = 0; j < kLanes; ++j) good &= bad[j] == 0;
  return good;
}

// Each pass once for every width of vectors that a machine may have.
#if defined(__x86_64__)
template<class F>
F* best_of(F* wide, F* middle, F* plain) {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return wide;
  return __builtin_cpu_supports("avx2") ? middle : plain;
}
#define LLORCH_BY_WIDTH(name, result, parameters, arguments)                                       \
  [[gnu::target("avx512f,avx512dq")]] result name##_512 parameters { return name##_of arguments; } \
  [[gnu::target("avx2")]] result name##_256 parameters { return name##_of arguments; }             \
  result name##_128 parameters { return name##_of arguments; }                                     \
  const auto name##_pass = best_of(name##_512, name##_256, name##_128);
#else
#define LLORCH_BY_WIDTH(name, result, parameters, arguments) \
  result name##_pass parameters { return name##_of arguments; }
#endif
LLORCH_BY_WIDTH(exponentials, void, (const float* values, std::size_t n, float top, double* out, double* blocks),
                (values, n, top, out, blocks))
LLORCH_BY_WIDTH(scale, bool, (const float* values, std::size_t n, float factor, float* out, float* blocks),
                (values, n, factor, out, blocks))
#undef LLORCH_BY_WIDTH
#undef LLORCH_INLINE

std::size_t blocks_of(std::size_t n) { return (n + kBlock - 1) / kBlock; }

}  // namespace

void renew_block(std::span<const float> values, std::size_t i, std::vector<float>& blocks) {
  const std::size_t first = i / kBlock * kBlock;
  blocks[i / kBlock] = *std::ranges::max_element(values.subspan(first, std::min(kBlock, values.size() - first)));
}

float scale(std::span<float> values, float factor, std::vector<float>& blocks) {
  blocks.resize(blocks_of(values.size()));
  scale_pass(values.data(), values.size(), factor, values.data(), blocks.data());
  return *std::ranges::max_element(blocks);
}

void forbid_others(std::span<const std::uint32_t> bits, std::span<float> values, std::vector<float>& blocks) {
  constexpr std::size_t kWord = 32, kWords = kBlock / kWord;
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  for (std::size_t b = 0; b * kBlock < values.size(); ++b) {
    const std::size_t begin = b * kBlock, end = std::min(values.size(), begin + kBlock);
    std::uint64_t kept = 0;
    for (std::size_t w = 0; w < kWords && b * kWords + w < bits.size(); ++w)
      kept |= std::uint64_t{bits[b * kWords + w]} << (kWord * w);
    if (kept == ~std::uint64_t{0}) continue;
    if (kept == 0) {
      std::fill(values.begin() + static_cast<std::ptrdiff_t>(begin), values.begin() + static_cast<std::ptrdiff_t>(end),
                kNever);
      blocks[b] = kNever;
      continue;
    }
    for (std::size_t i = begin; i < end; ++i)
      if (!(kept >> (i - begin) & 1)) values[i] = kNever;
    renew_block(values, begin, blocks);
  }
}

std::optional<float> copy_finite_scaled(std::span<const float> values, float factor, std::vector<float>& out,
                                        std::vector<float>& blocks) {
  out.resize(values.size());
  blocks.resize(blocks_of(values.size()));
  if (!scale_pass(values.data(), values.size(), factor, out.data(), blocks.data())) return std::nullopt;
  return *std::ranges::max_element(blocks);
}

float kth_largest(std::span<const float> values, std::span<const float> blocks, std::size_t k,
                  std::vector<float>& scratch) {
  const auto kth = [&] {
    const auto at = scratch.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(scratch.begin(), at, scratch.end(), std::greater<>());
    return *at;
  };
  // k blocks have a value from `least` on, so the k-th largest is among those; and so for blocks of blocks.
  constexpr std::size_t kTogether = 16;
  scratch.clear();
  for (std::size_t i = 0; i < blocks.size(); i += kTogether)
    scratch.push_back(*std::ranges::max_element(blocks.subspan(i, std::min(kTogether, blocks.size() - i))));
  float least = k <= scratch.size() ? kth() : -std::numeric_limits<float>::infinity();
  scratch.clear();
  std::ranges::copy_if(blocks, std::back_inserter(scratch), [least](float b) { return b >= least; });
  if (k <= scratch.size()) least = kth();
  scratch.clear();
  for_each_from(values, blocks, least, [&](std::size_t i) { scratch.push_back(values[i]); });
  return kth();
}

double exponentials(std::span<const float> values, float top, std::vector<double>& out, std::vector<double>& blocks) {
  out.resize(values.size());
  blocks.resize(blocks_of(values.size()));
  exponentials_pass(values.data(), values.size(), top, out.data(), blocks.data());
  double sum = 0;
  for (std::size_t first = 0; first < blocks.size(); first += kGroup) sum += group_sum(blocks, first);
  return sum;
}

double group_sum(std::span<const double> blocks, std::size_t first) {
  double sum = 0;
  for (const double b : blocks.subspan(first, std::min(kGroup, blocks.size() - first))) sum += b;
  return sum;
}

}  // namespace llorch::vocabulary
