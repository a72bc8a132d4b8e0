// A step can be recorded once and replayed: ten decode steps of a bucket (four sequences, one row each) run from one
// recording and give the bits that walking the model each time gives, with no look of the host into the device in
// between.
#include "device/recording.h"

#include "device/cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <cstring>

#include "golden.h"

namespace llorch {
namespace {

constexpr int kSequences = 4, kSteps = 10, kPrompt = 60;  // the steps cross a border of pages
constexpr int kPages = (kPrompt + kSteps + 63) / 64;

struct Recorded {
  explicit Recorded(const std::string& path) {
    ModelOptions options;
    options.path = path, options.threads = 2;
    options.decorate = [this](std::unique_ptr<Device> inner) {
      auto made = std::make_unique<RecordingDevice>(std::move(inner));
      device = made.get();
      return made;
    };
    model = LoadedModel::load(options).value();
    cache = model->device->make_cache(model->model->cache_shape(kSequences * kPages, KvPrecision::kF16)).value();
    for (int s = 0; s < kSequences; ++s)
      for (int p = 0; p < kPages; ++p) tables[static_cast<std::size_t>(s)].push_back(s * kPages + kPages - 1 - p);
  }

  /// Each sequence's next token, drawn with a seed of its own from what it said before.
  StepPlan next(int position) {
    StepPlan plan;
    plan.logits_wanted = true;
    for (std::size_t s = 0; s < kSequences; ++s) {
      plan.add_sequence(tables[s]);
      plan.add_row(last[s], position);
      plan.logit_rows.push_back(static_cast<std::int32_t>(s));
      plan.sampling.push_back(samplers[s].row(static_cast<std::uint64_t>(position - kPrompt)));
    }
    return plan;
  }
  void prefill() {
    for (int s = 0; s < kSequences; ++s) {
      StepPlan plan;
      plan.add_sequence(tables[static_cast<std::size_t>(s)]);
      for (int i = 0; i < kPrompt; ++i) plan.add_row((i * 31 + s * 77) % 319, i);
      ASSERT_TRUE(model->model->forward(plan, *cache));
      SamplingParams params;
      params.seed = static_cast<std::uint64_t>(s), params.temperature = 0.7 + 0.1 * s, params.top_k = 10 * s;
      params.repetition_penalty = 1.2;
      samplers.emplace_back(params, std::vector<std::int32_t>{1, 2, 3});
      last.push_back(s);
    }
  }
  void take(StepResult& result) {
    for (std::size_t s = 0; s < kSequences; ++s) {
      ASSERT_TRUE(result.sampled[s]);
      last[s] = result.sampled[s]->id;
      samplers[s].accept(last[s]);
      tokens.push_back(last[s]);
    }
    logits.insert(logits.end(), result.logits.begin(), result.logits.end());
  }

  RecordingDevice* device = nullptr;
  std::optional<LoadedModel> model;
  std::unique_ptr<Cache> cache;
  std::array<std::vector<std::int32_t>, kSequences> tables;
  std::vector<Sampler> samplers;
  std::vector<std::int32_t> last, tokens;
  std::vector<float> logits;
};

class Recording : public testing::TestWithParam<const char*> {};

TEST_P(Recording, ten_replayed_steps_of_a_bucket_give_the_bits_of_ten_walks) {
  const ScratchDirectory scratch;
  arch::SynthRequest request;
  request.shape = GetParam(), request.type = "Q4_K_M", request.seed = 3;
  ASSERT_TRUE(arch::synthesize(request, scratch / "m.gguf"));
  Recorded walked(scratch / "m.gguf"), replayed(scratch / "m.gguf");
  walked.prefill(), replayed.prefill();
  for (int i = 0; i < kSteps; ++i) {
    auto result = walked.model->model->forward(walked.next(kPrompt + i), *walked.cache);
    ASSERT_TRUE(result);
    walked.take(*result);
  }
  const int before = replayed.device->host_accesses();
  for (int i = 0; i < kSteps; ++i) {
    const StepPlan plan = replayed.next(kPrompt + i);
    if (i == 0) replayed.device->record();
    auto result =
        i == 0 ? replayed.model->model->forward(plan, *replayed.cache) : replayed.device->replay(plan, *replayed.cache);
    ASSERT_TRUE(result);
    replayed.take(*result);
  }
  EXPECT_EQ(replayed.device->host_accesses(), before) << "a step looked into device memory";
  EXPECT_GT(replayed.device->operations(), 20u);
  EXPECT_EQ(walked.tokens, replayed.tokens);
  ASSERT_EQ(walked.logits.size(), replayed.logits.size());
  EXPECT_EQ(std::memcmp(walked.logits.data(), replayed.logits.data(), walked.logits.size() * sizeof(float)), 0);
  const std::set<std::int32_t> distinct(walked.tokens.begin(), walked.tokens.end());
  EXPECT_GT(distinct.size(), 5u) << "what is compared should differ from step to step";
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
