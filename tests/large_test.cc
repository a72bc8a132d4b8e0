// Weights of more than 2^31 values: what an index of 32 bits would read or write in the wrong place (S-53).
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include "base/aligned_buffer.h"
#include "base/random.h"
#include "device/cpu/cpu_device.h"
#include "quant/table.h"
#include "test_data.h"

namespace llorch {
namespace {

constexpr std::uint64_t kColumns = 65'536, kRows = 33'000;
static_assert(kColumns * kRows > std::uint64_t{1} << 31);

std::vector<float> random_row(std::uint64_t seed) {
  std::vector<float> row(kColumns);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(uniform(seed, 1, i) - 0.5);
  return row;
}

std::uint64_t available_memory() {
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("MemAvailable:")) return std::stoull(line.substr(13)) << 10;
  return 0;
}

/// One token's row, as a step has it.
void embed(Device& device, const Weight& table, std::int32_t token, FloatSpan out) {
  const auto cache = device.make_cache({}).value();
  StepPlan plan;
  plan.add_sequence({});
  plan.add_row(token, 0);
  device.begin(plan, *cache);
  device.embed_tokens(table, out);
  EXPECT_TRUE(device.finish());
}

class Large : public testing::TestWithParam<DType> {};

TEST_P(Large, the_last_row_is_the_last_row) {
  if (kSanitized) GTEST_SKIP() << "not run under sanitizers: gigabytes would take them minutes";
  const std::uint64_t stride = row_bytes(GetParam(), kColumns);
  if (available_memory() < 2 * stride * kRows)
    GTEST_SKIP() << "not run: " << available_memory() << " bytes of memory are available";
  auto memory = AlignedBuffer::make(stride * kRows);  // zeros, which decode to zeros
  ASSERT_TRUE(memory) << memory.error().message;
  const quant::RowOps& ops = quant::row_ops(GetParam());
  const std::uint64_t given[] = {0, kRows - 1};
  std::vector<std::vector<float>> decoded;
  for (const std::uint64_t r : given) {
    const std::vector<float> values = random_row(r);
    ops.quantize(values.data(), kColumns, memory->data() + r * stride);
    ops.dequantize(memory->data() + r * stride, kColumns, decoded.emplace_back(kColumns).data());
  }
  TensorView t;
  t.name = "large", t.type = GetParam(), t.n_dims = 2, t.dims = {kColumns, kRows, 1, 1};
  t.data = {memory->data(), memory->size()};
  auto device = make_cpu_device("", 2);
  ASSERT_TRUE(device);
  std::atomic<std::uint64_t> copied = 0;
  std::atomic<bool> in_parts = true;
  const auto weight = (*device)->matrix(t, 1, [&](std::span<const std::byte> part, std::byte* to) -> Status {
    std::memcpy(to, part.data(), part.size());
    copied += part.size();
    if (part.size() > 64u << 20) in_parts = false;
    return {};
  });
  EXPECT_EQ(copied, kRows * stride);
  EXPECT_TRUE(in_parts) << "all of a file would stay in memory beside its copy";
  const auto table = (*device)->table(t, {});
  ASSERT_TRUE(weight && table);
  constexpr std::size_t kInputs = 20;  // one, and so many that tiles compute them
  const std::vector<float> x = random_row(77);
  auto in = (*device)->allocate(kInputs, kColumns), out = (*device)->allocate(kInputs, kRows);
  ASSERT_TRUE(in && out);
  for (std::size_t i = 0; i < kInputs; ++i) (*device)->upload(x, in->span().part(static_cast<std::int64_t>(i), 1));
  std::vector<float> results(kInputs * kRows, std::numeric_limits<float>::quiet_NaN());
  for (const std::size_t inputs : {std::size_t{1}, kInputs}) {
    (*device)->upload(std::vector<float>(results.size(), std::numeric_limits<float>::quiet_NaN()), out->span());
    const auto n = static_cast<std::int64_t>(inputs);
    const LinearPart part{weight->get(), {}, out->span().part(0, n)};
    (*device)->linear({&part, 1}, in->span().part(0, n));
    (*device)->download(out->span(), results);
    for (std::size_t i = 0; i < inputs; ++i)
      for (std::uint64_t r = 0; r < kRows; ++r) {
        const bool zero = r != given[0] && r != given[1];
        double want = 0, size = 0;
        if (!zero && i > 0) {
          ASSERT_EQ(results[i * kRows + r], results[r]);
          continue;
        }
        for (std::size_t c = 0; !zero && c < kColumns; ++c) {
          const double part_of = static_cast<double>(x[c]) * static_cast<double>(decoded[r == given[1]][c]);
          want += part_of, size += part_of * part_of;
        }
        // Inputs are rounded to 1/127 of the largest of 32: errors that do not add up over columns.
        ASSERT_NEAR(results[i * kRows + r], want, 0.03 * std::sqrt(size)) << "row " << r << ", input " << i;
      }
  }
  std::vector<float> row(kColumns);
  embed(**device, **table, static_cast<std::int32_t>(kRows - 1), in->span().part(0, 1));
  (*device)->download(in->span().part(0, 1), row);
  EXPECT_EQ(row, decoded[1]);
}

INSTANTIATE_TEST_SUITE_P(all, Large, testing::Values(DType::kQ8_0, DType::kQ4_K),
                         [](const auto& param) { return std::string(llorch::info(param.param).name); });

}  // namespace
}  // namespace llorch
