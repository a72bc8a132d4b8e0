// Steps that come again are captured and replayed: the same bits as operations that are launched one by one, also after
// memory has moved.
#include "cuda_conformance.h"
#include "decode_steps.h"
#include "device/decorator.h"
#include "tiny_models.h"

namespace llorch {
namespace {

/// Every step is launched.
class Launching final : public DeviceDecorator {
 public:
  using DeviceDecorator::DeviceDecorator;
  bool replay(const void*) override { return false; }
};

ModelOptions options_of(const std::string& path) {
  ModelOptions options;
  options.path = path, options.threads = 2, options.rows_max = 128, options.cuda = &open_cuda_device;
  return options;
}

CudaDevice& cuda_of(DecodeSteps& steps) { return static_cast<CudaDevice&>(*steps.model->device); }

class CudaGraphsOf : public testing::TestWithParam<TinyModel> {
 protected:
  void SetUp() override { LLORCH_NEED_CUDA(); }
};

TEST_P(CudaGraphsOf, a_replayed_step_gives_the_bits_of_a_launched_one) {
  const ScratchDirectory scratch;
  const Status made = make_tiny(GetParam(), scratch / "m.gguf");
  ASSERT_TRUE(made) << made.error().message;
  ModelOptions options = options_of(scratch / "m.gguf");
  DecodeSteps replayed(options);
  options.decorate = [](std::unique_ptr<Device> inner) { return std::make_unique<Launching>(std::move(inner)); };
  DecodeSteps launched(options);
  for (DecodeSteps* steps : {&launched, &replayed}) {
    steps->prefill();
    for (int i = 0; i < DecodeSteps::kSteps; ++i) {
      auto result = steps->model->model->forward(steps->next(DecodeSteps::kPrompt + i), *steps->cache);
      ASSERT_TRUE(result) << result.error().message;
      steps->take(*result);
    }
  }
  // Of each kind the first step is noticed and the second captured: prompts; positions below 64; those from there on.
  EXPECT_EQ(cuda_of(replayed).replayed(), DecodeSteps::kSequences + DecodeSteps::kSteps - 3u * 2u);
  expect_same_bits(launched, replayed);
}

INSTANTIATE_TEST_SUITE_P(all, CudaGraphsOf, testing::ValuesIn(kTinyModels), [](const auto& p) { return p.param.name; });

class CudaGraphsTest : public testing::Test {
 protected:
  void SetUp() override { LLORCH_NEED_CUDA(); }
};

TEST_F(CudaGraphsTest, room_that_moves_ends_what_was_captured) {
  DecodeSteps steps(options_of("builtin:haiku")), wanted(options_of("builtin:haiku"));
  for (DecodeSteps* each : {&steps, &wanted}) {
    each->prefill();
    for (int i = 0; i < 8; ++i) {
      if (i == 5 && each == &steps) {  // its logits take pinned memory that nobody rehearsed: more than before
        StepPlan large;
        large.add_sequence(each->tables[0], 0);
        large.logits_wanted = true;
        for (int row = 0; row < 50; ++row) large.add_row(row, row), large.logit_rows.push_back(row);
        const auto other = each->model->device->make_cache(each->cache->shape()).value();
        ASSERT_TRUE(each->model->model->forward(large, *other));
      }
      const auto result = each->model->model->forward(each->next(DecodeSteps::kPrompt + i), *each->cache);
      ASSERT_TRUE(result);
      each->take(*result);
    }
  }
  expect_same_bits(steps, wanted);
  EXPECT_EQ(cuda_of(wanted).replayed(), 2u + 2u + 2u) << "prompts, positions below 64, those from there on";
  EXPECT_EQ(cuda_of(steps).replayed(), 2u + 2u + 1u) << "noticed and captured once more";
}

TEST_F(CudaGraphsTest, kinds_of_steps_are_kept_apart_and_few) {
  CudaGraphs graphs;
  CudaGraphs::Kind kind;
  EXPECT_EQ(graphs.find(kind), nullptr);
  EXPECT_NE(graphs.find(kind), nullptr);
  kind.adapters = 1;
  EXPECT_EQ(graphs.find(kind), nullptr);
  for (std::size_t i = 0; i < CudaGraphs::kMost; ++i) {
    kind.draws = i + 10;
    EXPECT_EQ(graphs.find(kind), nullptr);
  }
  kind = {};
  EXPECT_EQ(graphs.find(kind), nullptr) << "the one that was used longest ago has gone";
  kind.frees = 1;
  EXPECT_EQ(graphs.find(kind), nullptr);
  kind.frees = 0;
  EXPECT_EQ(graphs.find(kind), nullptr) << "addresses of before a free are not used again";
}

}  // namespace
}  // namespace llorch
