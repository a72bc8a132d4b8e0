// What the roofline is measured with does the work that it counts.
#include "cuda/kernel/roofline.h"

#include "cuda/test_device.h"

namespace llorch::cuda {
namespace {

class RooflineKernels : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string none = no_device(); !none.empty()) GTEST_SKIP() << none;
    stream_.emplace(Stream::create().value());
  }
  std::optional<Stream> stream_;
};

/// More blocks than words, whole rounds, and a rest.
TEST_F(RooflineKernels, read_and_copy_all_words) {
  for (const std::int64_t words : {1, 255, 4096, 10'000}) {
    std::vector<std::uint32_t> values(static_cast<std::size_t>(words) * 4);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint32_t>(mix64(i));
    const DeviceMemory in = to_device(*stream_, values), out = on_device<std::uint32_t>(values.size());
    copy_words(stream_->handle(), in.data(), words, out.data(), 3);
    EXPECT_EQ(from_device<std::uint32_t>(*stream_, out).value(), values) << words;
    const DeviceMemory read = on_device<std::uint32_t>(3 * 4);
    read_words(stream_->handle(), in.data(), words, read.data(), 3);
    const auto blocks = from_device<std::uint32_t>(*stream_, read).value();
    std::uint32_t got[4] = {}, want[4] = {};
    for (std::size_t i = 0; i < blocks.size(); ++i) got[i % 4] ^= blocks[i];
    for (std::size_t i = 0; i < values.size(); ++i) want[i % 4] ^= values[i];
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got[i], want[i]) << words;
  }
}

TEST_F(RooflineKernels, multiply_as_often_as_they_count) {
  constexpr unsigned kBlocks = 2, kRounds = 3;
  const DeviceMemory floats = on_device<float>(kBlocks * kRoundValues), ints = on_device<int>(kBlocks * kRoundValues);
  const auto expect_all = [](const auto& sums, auto want) {
    EXPECT_EQ(sums, std::vector(kBlocks * kRoundValues, want));
  };
  multiply_bf16(stream_->handle(), kBlocks, kRounds, floats.as<float>());
  expect_all(from_device<float>(*stream_, floats).value(), 8.0f * 4 * 16 * kRounds);
  multiply_s8(stream_->handle(), kBlocks, kRounds, ints.as<int>());
  expect_all(from_device<int>(*stream_, ints).value(), static_cast<int>(8 * 4 * 32 * kRounds));
  multiply_f32(stream_->handle(), kBlocks, kRounds, floats.as<float>());
  expect_all(from_device<float>(*stream_, floats).value(), 16.0f * kRounds);
  // A warp's product of ones is 16 x 8 sums over k, four for each lane.
  EXPECT_EQ(kRoundOperationsBf16, 2.0 * 8 * 32 * 8 * 4 * 16);
  EXPECT_EQ(kRoundOperationsS8, 2.0 * 8 * 32 * 8 * 4 * 32);
  EXPECT_EQ(kRoundOperationsF32, 2.0 * kRoundValues * 16);
}

}  // namespace
}  // namespace llorch::cuda
