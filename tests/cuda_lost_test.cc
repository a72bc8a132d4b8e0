// A CUDA device that fails: a kernel or a call that gives an error, a step that never ends, memory that is not there.
#include "cuda_conformance.h"
#include "engine/engine.h"
#include "engine/loaded_model.h"

namespace llorch {
namespace {

#ifdef LLORCH_CUDA_EMULATED
using cuda::host::Fault;
using namespace std::chrono_literals;

cuda::host::Device& emulated() { return cuda::host::Device::instance(); }

class CudaLost : public testing::Test {
 protected:
  void TearDown() override { emulated().reset(); }
};

/// One step that computes something.
Result<StepResult> step(On& on, Cache& cache, FloatSpan x) {
  on.device().begin(plain_plan(2), cache);
  on.device().scale(x, 2);
  return on.device().finish();
}

TEST_F(CudaLost, a_step_that_never_ends_is_an_error_and_so_is_all_that_comes_then) {
  {
    On on(cuda_test_device());
    auto& device = static_cast<CudaDevice&>(on.device());
    const FloatSpan x = on.put(2, 8, 1);
    const auto cache = on.device().make_cache({}).value();
    ASSERT_TRUE(step(on, *cache, x));
    EXPECT_TRUE(device.check_resident());
    device.set_step_limit(50ms);
    emulated().plant({Fault::Kind::kHang, 1});
    for (int i = 0; i < 3; ++i) {
      const auto result = step(on, *cache, x);
      ASSERT_FALSE(result);
      EXPECT_EQ(result.error().code, ErrorCode::kCudaError);
      EXPECT_NE(result.error().message.find(i == 0 ? "within 0.05 s" : "does not answer"), std::string::npos)
          << result.error().message;
    }
    EXPECT_FALSE(device.check_resident());
  }  // nothing here waits for the device
  emulated().reset();
  On on(cuda_test_device());
  EXPECT_TRUE(verify_device(on.device()));
}

/// A device with a step that was begun, which hangs from now on.
class CudaHangs : public CudaLost {
 protected:
  void SetUp() override {
    on_.emplace(cuda_test_device());
    auto& device = static_cast<CudaDevice&>(on_->device());
    CacheShape shape;
    shape.layers = {{1, 8, 0}}, shape.windows = {0}, shape.pages = {2};
    cache_ = device.make_cache(shape).value();
    content_.resize(cache_->content_bytes(0));
    ASSERT_TRUE(cache_->write_content(0, 0, content_));
    ASSERT_TRUE(cache_->read_content(0, 0, content_));
    device.begin(plain_plan(2), *cache_);
    device.set_step_limit(50ms);
    emulated().plant({Fault::Kind::kHang, 1});
  }
  /// After it: nothing waits for the device any more.
  void expect_lost() {
    EXPECT_FALSE(cache_->read_content(0, 0, content_));
    EXPECT_FALSE(cache_->write_content(0, 0, content_));
    EXPECT_FALSE(on_->device().check_resident());
    on_->device().begin(plain_plan(2), *cache_);
    const auto result = on_->device().finish();
    ASSERT_FALSE(result);
    EXPECT_TRUE(result.error().message.contains("does not answer")) << result.error().message;
  }
  static void expect_late(const Status& status) {
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kCudaError);
    EXPECT_TRUE(status.error().message.contains("within 0.05 s")) << status.error().message;
  }
  std::optional<On> on_;
  std::unique_ptr<Cache> cache_;
  std::vector<std::byte> content_;
};

TEST_F(CudaHangs, a_read_of_a_page_has_a_limit) {
  expect_late(cache_->read_content(0, 0, content_));
  expect_lost();
}
TEST_F(CudaHangs, a_write_of_a_page_has_a_limit) {
  expect_late(cache_->write_content(0, 0, content_));
  expect_lost();
}
TEST_F(CudaHangs, a_look_at_the_memory_has_a_limit) {
  expect_late(on_->device().check_resident());
  expect_lost();
}
TEST_F(CudaHangs, a_step_that_was_not_finished_is_waited_for_with_a_limit) {
  on_->device().begin(plain_plan(2), *cache_);
  expect_lost();
}
TEST_F(CudaHangs, the_end_of_a_device_has_a_limit) {
  const std::size_t before = emulated().memory_free_bytes();
  on_.reset();
  EXPECT_EQ(emulated().memory_free_bytes(), before) << "freed under a device that may still write there";
}

class LostUnderAnEngine : public testing::TestWithParam<Fault::Kind> {
 protected:
  void TearDown() override { emulated().reset(); }
};

TEST_P(LostUnderAnEngine, every_request_ends_with_worker_unhealthy) {
  ModelOptions options;
  options.path = "builtin:haiku", options.threads = 1, options.rows_max = 64, options.cuda = &open_cuda_device;
  auto model = LoadedModel::load(options).value();
  auto& device = static_cast<CudaDevice&>(*model.device);
  device.set_step_limit(1h);
  const auto engine = Engine::make(*model.model, *model.tokenizer, {.max_batch = 2}).value();
  std::vector<ErrorCode> errors;
  int tokens = 0;
  const auto submit = [&] {
    GenerateRequest request;
    request.prompt = {1, 2, 3}, request.ignore_eos = true;
    request.sink = [&](const EngineEvent& event) {
      tokens += std::holds_alternative<TokenEvent>(event);
      if (const auto* error = std::get_if<Error>(&event)) errors.push_back(error->code);
    };
    ASSERT_TRUE(engine->submit(std::move(request)));
  };
  for (int i = 0; i < 3; ++i) submit();
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(engine->step());
  EXPECT_GT(tokens, 0);
  if (GetParam() == Fault::Kind::kHang) device.set_step_limit(1s);
  emulated().plant({GetParam(), 1});
  engine->run_until_idle();
  EXPECT_EQ(errors, std::vector(3, ErrorCode::kWorkerUnhealthy));
  ASSERT_TRUE(engine->broken());
  EXPECT_EQ(engine->broken()->code, ErrorCode::kWorkerUnhealthy);
  submit();
  engine->run_until_idle();
  EXPECT_EQ(errors.size(), 4u);
}

INSTANTIATE_TEST_SUITE_P(all, LostUnderAnEngine, testing::Values(Fault::Kind::kLost, Fault::Kind::kHang),
                         [](const auto& p) { return p.param == Fault::Kind::kLost ? "lost" : "hang"; });

TEST_F(CudaLost, memory_of_the_host_is_not_the_device_s) {
  const auto device = cuda::DeviceMemory::allocate(100).value();
  const auto pinned = cuda::PinnedMemory::allocate(100).value();
  EXPECT_TRUE(cuda::check_on_device(device.data(), 100, 0));
  for (const Status& wrong :
       {cuda::check_on_device(pinned.data(), 100, 0), cuda::check_on_device(device.data(), 101, 0)}) {
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().code, ErrorCode::kCudaError);
  }
}

TEST_F(CudaLost, residency_fails_with_the_device) {
  const auto device = cuda_test_device();
  EXPECT_TRUE(device->check_resident());
  emulated().fail("a planted failure");
  const Status gone = device->check_resident();
  ASSERT_FALSE(gone);
  EXPECT_NE(gone.error().message.find("planted"), std::string::npos);
}

/// The canary is what the device wrote first; whoever overwrites it is noticed.
TEST_F(CudaLost, contents_that_changed_are_noticed) {
  const auto device = cuda_test_device();
  ASSERT_TRUE(device->check_resident());
  auto stream = cuda::Stream::create().value();
  ASSERT_TRUE(stream.fill(const_cast<std::byte*>(device->canary().data()), 0, 1));
  ASSERT_TRUE(stream.synchronize());
  const Status changed = device->check_resident();
  ASSERT_FALSE(changed);
  EXPECT_NE(changed.error().message.find("not there any more"), std::string::npos) << changed.error().message;
}
#endif

}  // namespace
}  // namespace llorch
