// A step can be recorded once and replayed: ten decode steps of a bucket (four sequences, one row each) run from one
// recording and give the bits that walking the model each time gives, with no look of the host into the device in
// between.
#include "device/recording.h"

#include "decode_steps.h"
#include "device/cpu/cpu_device.h"

namespace llorch {
namespace {

class Recording : public testing::TestWithParam<const char*> {};

TEST_P(Recording, ten_replayed_steps_of_a_bucket_give_the_bits_of_ten_walks) {
  const ScratchDirectory scratch;
  arch::SynthRequest request;
  request.shape = GetParam(), request.type = "Q4_K_M", request.seed = 3;
  ASSERT_TRUE(arch::synthesize(request, scratch / "m.gguf"));
  RecordingDevice* recording = nullptr;
  ModelOptions options;
  options.path = scratch / "m.gguf", options.threads = 2;
  DecodeSteps walked(options);
  options.decorate = [&](std::unique_ptr<Device> inner) {
    auto made = std::make_unique<RecordingDevice>(std::move(inner));
    recording = made.get();
    return made;
  };
  DecodeSteps replayed(options);
  walked.prefill(), replayed.prefill();
  for (int i = 0; i < DecodeSteps::kSteps; ++i) {
    auto result = walked.model->model->forward(walked.next(DecodeSteps::kPrompt + i), *walked.cache);
    ASSERT_TRUE(result);
    walked.take(*result);
  }
  const int before = recording->host_accesses();
  for (int i = 0; i < DecodeSteps::kSteps; ++i) {
    const StepPlan plan = replayed.next(DecodeSteps::kPrompt + i);
    if (i == 0) recording->record();
    auto result =
        i == 0 ? replayed.model->model->forward(plan, *replayed.cache) : recording->run_again(plan, *replayed.cache);
    ASSERT_TRUE(result);
    replayed.take(*result);
  }
  EXPECT_EQ(recording->host_accesses(), before) << "a step looked into device memory";
  EXPECT_GT(recording->operations(), 20u);
  expect_same_bits(walked, replayed);
}

INSTANTIATE_TEST_SUITE_P(all, Recording, testing::Values("tiny-llama", "tiny-gpt2", "tiny-qwen3", "tiny-gpt-oss"),
                         [](const auto& p) {
                           std::string name = p.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

// What is counted is seen.
TEST(RecordingDevice, counts_the_host_s_looks_inside_a_step_alone) {
  RecordingDevice device(make_cpu_device("scalar", 1).value());
  const FloatBuffer buffer = device.allocate(1, 4).value();
  const auto cache = device.make_cache({}).value();
  const float values[4] = {1, 2, 3, 4};
  float back[4];
  device.upload(values, buffer.span());
  EXPECT_EQ(device.host_accesses(), 0);
  device.begin({}, *cache);
  device.download(buffer.span(), back);
  device.upload(values, buffer.span());
  ASSERT_TRUE(device.finish());
  EXPECT_EQ(device.host_accesses(), 2);
}

}  // namespace
}  // namespace llorch
