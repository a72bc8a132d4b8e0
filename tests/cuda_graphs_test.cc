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
  // Of each kind two steps are launched and the third captured: prompts; positions below 64; those from there on.
  EXPECT_EQ(cuda_of(replayed).replayed(), DecodeSteps::kSequences + DecodeSteps::kSteps - 3u * 3u);
  expect_same_bits(launched, replayed);
}

INSTANTIATE_TEST_SUITE_P(all, CudaGraphsOf, testing::ValuesIn(kTinyModels), [](const auto& p) { return p.param.name; });

class CudaGraphsTest : public testing::Test {
 protected:
  void SetUp() override { LLORCH_NEED_CUDA(); }
#ifdef LLORCH_CUDA_EMULATED
  void TearDown() override { cuda::host::Device::instance().reset(); }
#endif
};

#ifdef LLORCH_CUDA_EMULATED
TEST_F(CudaGraphsTest, a_step_that_cannot_be_captured_is_launched) {
  DecodeSteps steps(options_of("builtin:haiku")), wanted(options_of("builtin:haiku"));
  for (DecodeSteps* each : {&wanted, &steps}) {
    if (each == &steps) cuda::host::Device::instance().plant({cuda::host::Fault::Kind::kNoGraphs, 0});
    each->prefill();
    for (int i = 0; i < DecodeSteps::kSteps; ++i) {
      const auto result = each->model->model->forward(each->next(DecodeSteps::kPrompt + i), *each->cache);
      ASSERT_TRUE(result) << result.error().message;
      each->take(*result);
    }
  }
  expect_same_bits(steps, wanted);
  EXPECT_GT(cuda_of(wanted).captured(), 0u);
  EXPECT_EQ(cuda_of(steps).captured() + cuda_of(steps).replayed(), 0u);
}
#endif

TEST_F(CudaGraphsTest, room_that_moves_ends_what_was_captured) {
  DecodeSteps steps(options_of("builtin:haiku")), wanted(options_of("builtin:haiku"));
  for (DecodeSteps* each : {&steps, &wanted}) {
    each->prefill();
    for (int i = 0; i < DecodeSteps::kSteps; ++i) {
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
  EXPECT_EQ(cuda_of(wanted).replayed(), 1u + 1u + 3u) << "prompts, positions below 64, those from there on";
  EXPECT_EQ(cuda_of(steps).replayed(), 1u + 1u + 2u) << "launched twice and captured once more";
}

class CudaGraphKinds : public testing::Test {
 protected:
  /// A step of this kind: whether it is replayed; captured from the third one on.
  bool step() {
    CudaGraphs::Entry& entry = graphs_.find(kind_);
    if (entry.graph) return true;
    if (CudaGraphs::wanted(entry)) graphs_.keep(entry, {});
    return false;
  }
  CudaGraphs graphs_;
  CudaGraphs::Kind kind_;
};

TEST_F(CudaGraphKinds, a_kind_is_captured_when_it_comes_the_third_time) {
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(step());
  EXPECT_TRUE(step());
  kind_.adapters = 1;
  EXPECT_FALSE(step()) << "another kind";
  kind_ = {};
  kind_.frees = 1;
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(step());
  kind_.frees = 0;
  EXPECT_FALSE(step()) << "addresses of before a free are not used again";
}

TEST_F(CudaGraphKinds, more_kinds_than_graphs_keep_their_counts) {
  for (std::size_t times = 0; times < 3; ++times)
    for (std::size_t i = 0; i < CudaGraphs::kCapturedMost + 2; ++i) {
      kind_.draws = i;
      EXPECT_FALSE(step());
    }
  EXPECT_EQ(graphs_.captured(), CudaGraphs::kCapturedMost);
  for (std::size_t i = 2; i < CudaGraphs::kCapturedMost + 2; ++i) {
    kind_.draws = i;
    EXPECT_TRUE(step()) << i;
  }
  kind_.draws = 0;
  EXPECT_FALSE(step()) << "the one that was used longest ago has gone";
  EXPECT_FALSE(step());
  EXPECT_EQ(graphs_.captured(), CudaGraphs::kCapturedMost);
}

TEST_F(CudaGraphKinds, kinds_that_never_come_again_are_forgotten_and_not_captured) {
  for (std::size_t times = 0; times < 4; ++times)
    for (std::size_t i = 0; i < CudaGraphs::kSeenMost + 1; ++i) {
      kind_.draws = i;
      EXPECT_FALSE(step());
    }
  EXPECT_EQ(graphs_.captured(), 0u);
}

TEST_F(CudaGraphKinds, a_kind_that_was_refused_is_not_tried_again) {
  CudaGraphs::refuse(graphs_.find(kind_));
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(step());
  EXPECT_EQ(graphs_.captured(), 0u);
}

}  // namespace
}  // namespace llorch
