// Block formats: sizes from the specification, hand-made blocks, quality of quantize(), the plain types exhaustively.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/half.h"
#include "base/random.h"
#include "quant/mxfp4.h"
#include "quant/q4_k.h"
#include "quant/table.h"

namespace llorch::quant {
namespace {

std::vector<float> random_floats(std::size_t n, std::uint64_t seed) {
  std::vector<float> x(n);
  // Sums of uniforms: near-normal, as weights are.
  for (std::size_t i = 0; i < n; ++i)
    x[i] =
        static_cast<float>(uniform(seed, 0, i) + uniform(seed, 1, i) + uniform(seed, 2, i) + uniform(seed, 3, i) - 2);
  return x;
}

TEST(Formats, have_the_bytes_of_the_specification) {
  const std::pair<DType, std::uint64_t> want[] = {{DType::kQ4_0, 18}, {DType::kQ4_1, 20}, {DType::kQ5_0, 22},
                                                  {DType::kQ5_1, 24}, {DType::kQ8_0, 34}, {DType::kIQ4_NL, 18},
                                                  {DType::kMXFP4, 17}};
  for (const auto& [type, bytes] : want) EXPECT_EQ(row_bytes(type, 32), bytes) << info(type).name;
  const std::pair<DType, std::uint64_t> super[] = {{DType::kQ2_K, 84},   {DType::kQ3_K, 110},   {DType::kQ4_K, 144},
                                                   {DType::kQ5_K, 176},  {DType::kQ6_K, 210},   {DType::kIQ4_XS, 136},
                                                   {DType::kIQ3_S, 110}, {DType::kIQ3_XXS, 98}, {DType::kTQ2_0, 66}};
  for (const auto& [type, bytes] : super) EXPECT_EQ(row_bytes(type, 256), bytes) << info(type).name;
  EXPECT_EQ(row_bytes(DType::kMXFP4, 1024), 544u);
  EXPECT_EQ(row_bytes(DType::kNVFP4, 64), 36u);
}

/// Blocks made of a formula, factors that are numbers, and a hash over the bits of their values as the `gguf` package
/// (0.19) dequantizes them.
TEST(Formats, decode_to_the_bits_of_the_reference) {
  const std::pair<DType, std::uint64_t> want[] = {
      {DType::kQ4_0, 0xadfc8944cad21325},   {DType::kQ4_1, 0x15d2e9b1f424fd25},   {DType::kQ5_0, 0x05a70d07a5352325},
      {DType::kQ5_1, 0x8dcf5a7b98dcc825},   {DType::kQ8_0, 0xc1c6671f84e0ad65},   {DType::kQ2_K, 0xc736316bb8c86b25},
      {DType::kQ3_K, 0x850bc3fa2ea8a125},   {DType::kQ4_K, 0x0373eb7dbc9204f5},   {DType::kQ5_K, 0xddcce3ebc1aa1521},
      {DType::kQ6_K, 0x201f631e17e8e4b3},   {DType::kIQ4_NL, 0x35a56a0d66cb0ba5}, {DType::kMXFP4, 0xc7a4abe679eec325},
      {DType::kIQ4_XS, 0x523c3e26e62267ad}, {DType::kIQ3_S, 0x1593148068c25c75},  {DType::kIQ3_XXS, 0x51f86864cee3aef5},
      {DType::kTQ2_0, 0x52019a8706716325},  {DType::kNVFP4, 0x95e7a9a6bf86c325},
  };
  for (const auto& [type, hash] : want) {
    const std::size_t step = info(type).bytes, blocks = 2048 / info(type).block;
    std::vector<std::uint8_t> raw(blocks * step);
    for (std::uint64_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<std::uint8_t>((i * i * 37 + i * 11 + 5) >> 3);
    std::vector<std::size_t> halves{0};
    switch (type) {
      case DType::kQ4_1:
      case DType::kQ5_1:
      case DType::kQ4_K:
      case DType::kQ5_K: halves = {0, 2}; break;
      case DType::kQ2_K: halves = {80, 82}; break;
      case DType::kQ3_K:
      case DType::kQ6_K:
      case DType::kTQ2_0: halves = {step - 2}; break;
      case DType::kMXFP4:
      case DType::kNVFP4: halves = {}; break;
      default: break;
    }
    for (std::size_t b = 0; b < blocks; ++b) {
      for (const std::size_t at : halves) store(&raw[b * step + at], static_cast<std::uint16_t>(0x2c00 + 37 * b));
      if (type == DType::kMXFP4) raw[b * step] = 120;
    }
    std::vector<float> values(2048);
    row_ops(type).dequantize(reinterpret_cast<const std::byte*>(raw.data()), values.size(), values.data());
    std::uint64_t got = 0xcbf29ce484222325ull;
    for (const float v : values) got = (got ^ std::bit_cast<std::uint32_t>(v)) * 0x100000001b3ull;
    EXPECT_EQ(got, hash) << info(type).name;
  }
}

TEST(Formats, keep_values_as_closely_as_their_bits_allow) {
  // Root mean square error relative to the values', for near-normal data. Each bound is what b bits of uniform steps
  // over the range leave (range / 2^b / sqrt(12), the range of a block being about 5 deviations), with a margin of a
  // fifth.
  const std::pair<DType, double> bounds[] = {
      {DType::kQ8_0, 0.008},  {DType::kQ6_K, 0.025},   {DType::kQ5_K, 0.05},  {DType::kQ5_1, 0.05},
      {DType::kQ5_0, 0.06},   {DType::kQ4_K, 0.09},    {DType::kQ4_1, 0.09},  {DType::kQ4_0, 0.11},
      {DType::kIQ4_NL, 0.09}, {DType::kMXFP4, 0.15},   {DType::kNVFP4, 0.12}, {DType::kIQ4_XS, 0.09},
      {DType::kIQ3_S, 0.19},  {DType::kIQ3_XXS, 0.25}, {DType::kTQ2_0, 0.5},  {DType::kQ3_K, 0.19},
      {DType::kQ2_K, 0.36},   {DType::kF16, 0.0004},   {DType::kBF16, 0.003}};
  const std::vector<float> x = random_floats(8192, 1);
  double power = 0;
  for (const float v : x) power += static_cast<double>(v) * v;
  for (const auto& [type, bound] : bounds) {
    std::vector<std::byte> stored(row_bytes(type, x.size()));
    std::vector<float> back(x.size());
    row_ops(type).quantize(x.data(), x.size(), stored.data());
    row_ops(type).dequantize(stored.data(), x.size(), back.data());
    double error = 0;
    for (std::size_t i = 0; i < x.size(); ++i)
      error += (static_cast<double>(x[i]) - back[i]) * (static_cast<double>(x[i]) - back[i]);
    const double relative = std::sqrt(error / power);
    EXPECT_LE(relative, bound) << info(type).name;
    EXPECT_GE(relative, bound / 20) << info(type).name << ": too good to be true";
  }
}

TEST(Formats, dot_is_the_sum_of_dequantized_products) {
  for (const DTypeInfo& type : kDTypes) {
    const RowOps* ops = find_row_ops(type.type);
    EXPECT_EQ(ops != nullptr, is_weight_type(type.type)) << type.name;
    if (!ops) continue;
    const std::vector<float> w = random_floats(512, 2), x = random_floats(512, 3);
    std::vector<std::byte> stored(row_bytes(type.type, 512));
    std::vector<float> back(512);
    ops->quantize(w.data(), 512, stored.data());
    ops->dequantize(stored.data(), 512, back.data());
    double want = 0;
    for (std::size_t i = 0; i < 512; ++i) want += static_cast<double>(back[i]) * x[i];
    EXPECT_DOUBLE_EQ(ops->dot(stored.data(), x.data(), 512), want) << type.name;
  }
}

TEST(Formats, zeros_and_constants_survive) {
  for (const DTypeInfo& type : kDTypes) {
    const RowOps* ops = find_row_ops(type.type);
    if (!ops) continue;
    for (const float value : {0.0f, 2.0f, -2.0f}) {
      const std::vector<float> x(256, value);
      std::vector<std::byte> stored(row_bytes(type.type, 256));
      std::vector<float> back(256);
      ops->quantize(x.data(), 256, stored.data());
      ops->dequantize(stored.data(), 256, back.data());
      for (const float v : back) ASSERT_NEAR(v, value, std::fabs(value) * 0.08) << type.name;
    }
  }
}

TEST(Mxfp4, decodes_the_block_of_the_specification) {
  std::uint8_t block[17] = {127};  // scale 1
  for (int j = 0; j < 16; ++j) block[1 + j] = static_cast<std::uint8_t>(j | (15 - j) << 4);
  float out[32];
  row_ops(DType::kMXFP4).dequantize(reinterpret_cast<const std::byte*>(block), 32, out);
  const float levels[16] = {0, .5f, 1, 1.5f, 2, 3, 4, 6, 0, -.5f, -1, -1.5f, -2, -3, -4, -6};
  for (int j = 0; j < 16; ++j) {
    EXPECT_EQ(out[j], levels[j]) << j;
    EXPECT_EQ(out[j + 16], levels[15 - j]) << j;
  }
}

TEST(Mxfp4, edge_scales_are_finite_and_exact) {
  for (const int e : {0, 1, 2, 126, 127, 128, 254}) {
    EXPECT_EQ(e8m0_to_float(static_cast<std::uint8_t>(e)), static_cast<float>(std::ldexp(1.0, e - 127))) << e;
    EXPECT_EQ(e8m0_to_half_float(static_cast<std::uint8_t>(e)), static_cast<float>(std::ldexp(1.0, e - 128))) << e;
  }
  for (const std::uint8_t fill : {0x00, 0xaa, 0x80}) {
    const std::vector<std::uint8_t> block(17, fill);
    float out[32];
    row_ops(DType::kMXFP4).dequantize(reinterpret_cast<const std::byte*>(block.data()), 32, out);
    for (const float v : out) EXPECT_TRUE(std::isfinite(v)) << static_cast<int>(fill);
  }
}

TEST(ScalePairs, six_bit_pairs_round_trip_for_every_value) {
  for (int v = 0; v < 64; ++v) {
    std::uint8_t packed[12] = {};
    for (int s = 0; s < 8; ++s) ScalePairs::put(packed, s, (v + s) % 64, (63 - v + 3 * s) % 64);
    for (int s = 0; s < 8; ++s) {
      EXPECT_EQ(ScalePairs::scale(packed, s), (v + s) % 64);
      EXPECT_EQ(ScalePairs::minimum(packed, s), (63 - v + 3 * s) % 64);
    }
  }
}

#ifndef __ARM_FP16_FORMAT_IEEE
using CompilerHalf = _Float16;
#else
using CompilerHalf = __fp16;
#endif

TEST(Half, converts_like_the_compiler_for_every_pattern) {
  for (std::uint32_t h = 0; h < 65536; ++h) {
    const auto compiler = std::bit_cast<CompilerHalf>(static_cast<std::uint16_t>(h));
    const float want = static_cast<float>(compiler), got = half_to_float(static_cast<std::uint16_t>(h));
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << h;
      continue;
    }
    ASSERT_EQ(std::bit_cast<std::uint32_t>(got), std::bit_cast<std::uint32_t>(want)) << h;
    ASSERT_EQ(float_to_half(got), h);
  }
  for (std::uint32_t i = 0; i < 2'000'000; ++i) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(mix64(i)));
    if (std::isnan(x)) continue;
    ASSERT_EQ(float_to_half(x), std::bit_cast<std::uint16_t>(static_cast<CompilerHalf>(x))) << x;
  }
}

TEST(Bfloat, is_the_upper_half_rounded_to_even) {
  EXPECT_EQ(float_to_bfloat(1.0f), 0x3f80);
  EXPECT_EQ(float_to_bfloat(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // half way, even below
  EXPECT_EQ(float_to_bfloat(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // half way, even above
  EXPECT_TRUE(std::isnan(bfloat_to_float(float_to_bfloat(NAN))));
  for (std::uint32_t b = 0; b < 0x7f80; ++b)
    ASSERT_EQ(float_to_bfloat(bfloat_to_float(static_cast<std::uint16_t>(b))), b);
}

}  // namespace
}  // namespace llorch::quant
