// A CUDA device as the engine sees it: opening, memory and its count, errors as types, contents of caches, a whole
// model.
#include "device/cuda/cuda_device.h"

#include "cuda_conformance.h"
#include "golden.h"

namespace llorch {
namespace {

class CudaDeviceTest : public testing::Test {
 protected:
  void SetUp() override { LLORCH_NEED_CUDA(); }
  void TearDown() override {
#ifdef LLORCH_CUDA_EMULATED
    cuda::host::Device::instance().reset();
    cuda::host::Device::instance().set_memory_bytes(std::size_t{4} << 30);
#endif
  }
};

TEST_F(CudaDeviceTest, opens_through_the_hook_and_is_verified) {
  const auto opened = init_cuda_device(0, &open_cuda_device, 2);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->id, "cuda:0");
  EXPECT_TRUE(opened->device->isa().starts_with("cuda-")) << opened->device->isa();
  const Status verified = verify_device(*opened->device);
  EXPECT_TRUE(verified) << verified.error().message;
  for (const int index : {-1, 99})
    EXPECT_EQ(init_cuda_device(index, &open_cuda_device).error().code, ErrorCode::kDeviceNotFound) << index;
  EXPECT_EQ(init_cuda_device(0).error().code, ErrorCode::kDeviceNotFound) << "a program without CUDA";
}

TEST_F(CudaDeviceTest, counts_its_memory) {
  const auto device = cuda_test_device();
  const std::size_t before = device->memory_bytes();
  {
    const auto buffer = device->allocate(100, 50).value();
    EXPECT_EQ(device->memory_bytes() - before, 100u * 50 * sizeof(float));
    CacheShape shape;
    shape.layers = {{2, 64, 0}}, shape.pages = {10}, shape.precision = KvPrecision::kF16;
    const auto cache = device->make_cache(shape).value();
    EXPECT_EQ(cache->bytes(), 2u * 2 * 64 * 64 * 2 * 10)
        << "keys and values, heads, positions, dimensions, bytes, pages";
    EXPECT_EQ(device->memory_bytes() - before, 100u * 50 * sizeof(float) + cache->bytes());
  }
  EXPECT_EQ(device->memory_bytes(), before);
}

TEST_F(CudaDeviceTest, memory_that_is_not_there_is_an_error_and_the_device_works_on) {
  const auto device = cuda_test_device();
  const auto huge = device->allocate(std::int64_t{1} << 30, 1 << 10);
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code, ErrorCode::kVramOom);
  EXPECT_EQ(device_status(huge.error().code), DeviceStatus::kOutOfMemory);
  CacheShape shape;
  shape.layers = {{64, 128, 0}}, shape.pages = {1 << 20};
  EXPECT_EQ(device->make_cache(shape).error().code, ErrorCode::kVramOom);
  EXPECT_TRUE(verify_device(*device));
}

TEST_F(CudaDeviceTest, weights_that_are_not_finite_or_no_weights_are_refused) {
  On on(cuda_test_device());
  std::vector<float> values(64 * 3, 1);
  values[100] = NAN;
  TensorView t;
  t.name = "w", t.n_dims = 2, t.dims = {64, 3, 1, 1}, t.data = std::as_bytes(std::span(values));
  EXPECT_EQ(on.device().matrix(t, 1, {}).error().code, ErrorCode::kModelLoadFailed);
  t.type = DType::kI32;
  EXPECT_EQ(on.device().matrix(t, 1, {}).error().code, ErrorCode::kModelLoadFailed);
  EXPECT_EQ(on.device().table(t, {}).error().code, ErrorCode::kModelLoadFailed);
  t.type = DType::kF32;
  const auto failing = [](std::span<const std::byte>, std::byte*) -> Status { return fail(ErrorCode::kIo, "gone"); };
  EXPECT_EQ(on.device().matrix(t, 1, failing).error().code, ErrorCode::kIo);
}

TEST_F(CudaDeviceTest, errors_of_reading_embeddings_end_the_step_alone) {
  On on(cuda_test_device());
  bool fails = true;
  const TensorView t = on.tensor(10, 32, DType::kF32, 1);
  const auto table = on.device().table(t, [&](std::span<const std::byte> part, std::byte* to) -> Status {
    if (fails) return fail(ErrorCode::kModelChanged, "another file");
    std::ranges::copy(part, to);
    return {};
  });
  const auto cache = on.device().make_cache({}).value();
  const FloatSpan out = on.room(3, 32);
  for (const bool failing : {true, false}) {
    fails = failing;
    on.device().begin(plain_plan(3), *cache);
    on.device().embed_tokens(**table, out);
    const auto result = on.device().finish();
    ASSERT_EQ(result.has_value(), !failing);
    EXPECT_TRUE(!failing || result.error().code == ErrorCode::kModelChanged);
  }
}

#ifdef LLORCH_CUDA_EMULATED
TEST_F(CudaDeviceTest, nonsense_in_the_environment_opens_no_device) {
  setenv("LLORCH_CUDA_ORDER", "sideways", 1);
  const auto refused = init_cuda_device(0, &open_cuda_device);
  unsetenv("LLORCH_CUDA_ORDER");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("LLORCH_CUDA_ORDER is 'sideways'"), std::string::npos);
}

#ifdef LLORCH_CUDA_EMULATED
/// What cards of compute capability 8.6, 8.9 and 12.0 have: nothing is loaded whose attention could not be launched.
TEST_F(CudaDeviceTest, heads_that_take_more_shared_memory_than_a_block_has_are_refused_by_name) {
  setenv("LLORCH_CUDA_SHARED_BYTES", "101376", 1);
  On on(cuda_test_device());
  const struct {
    KvPrecision precision;
    std::int32_t head_dim;
    const char* refused;
  } cases[] = {{KvPrecision::kF32, 576, nullptr},
               {KvPrecision::kF32, 577, "577 dimensions, remembered as f32"},
               {KvPrecision::kF16, 928, nullptr},
               {KvPrecision::kF16, 929, "929 dimensions, remembered as f16"},
               {KvPrecision::kQ8_0, 576, nullptr}};
  for (const auto& [precision, head_dim, refused] : cases) {
    CacheShape shape;
    shape.layers = {{1, 64, 0}, {1, head_dim, 0}}, shape.pages = {2}, shape.precision = precision;
    const auto cache = on.device().make_cache(shape);
    ASSERT_EQ(cache.has_value(), refused == nullptr) << head_dim << ' ' << (cache ? "" : cache.error().message);
    if (!refused) continue;
    EXPECT_EQ(cache.error().code, ErrorCode::kModelLoadFailed);
    EXPECT_TRUE(cache.error().message.contains(refused) && cache.error().message.contains("101376"))
        << cache.error().message;
  }
  unsetenv("LLORCH_CUDA_SHARED_BYTES");
}
#endif

TEST_F(CudaDeviceTest, a_step_that_finds_no_room_is_an_error) {
  On on(cuda_test_device());
  const Weight* w = on.matrix(16, 64, 1);
  const FloatSpan x = on.put(64, 64, 2), out = on.room(64, 16);
  const auto cache = on.device().make_cache({}).value();
  on.device().begin(plain_plan(64), *cache);
  auto& emulated = cuda::host::Device::instance();
  emulated.set_memory_bytes(emulated.memory_bytes() - emulated.memory_free_bytes());
  const LinearPart parts[] = {{w, {}, out}};
  on.device().linear(parts, x);
  const auto result = on.device().finish();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kVramOom);
  emulated.set_memory_bytes(std::size_t{4} << 30);
  on.device().begin(plain_plan(64), *cache);
  on.device().linear(parts, x);
  EXPECT_TRUE(on.device().finish());
}

TEST_F(CudaDeviceTest, a_step_whose_plan_finds_no_room_launches_nothing) {
  On on(cuda_test_device());
  const FloatSpan x = on.put(300, 8, 2), chosen = on.room(2, 8);
  const auto cache = on.device().make_cache({}).value();
  const auto step = [&](int rows) {
    StepPlan plan = plain_plan(rows);
    plan.logit_rows = {0, 1};
    on.device().begin(plan, *cache);
    on.device().check(x.part(0, rows), 10, {});      // writes faults
    on.device().select(x, RowSet::kLogits, chosen);  // reads rows of the plan
    return on.device().finish();
  };
  EXPECT_TRUE(step(2));
  auto& emulated = cuda::host::Device::instance();
  emulated.set_memory_bytes(emulated.memory_bytes() - emulated.memory_free_bytes());
  const auto result = step(300);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kVramOom);
  EXPECT_TRUE(step(2)) << "asks for no more than before";
  emulated.set_memory_bytes(std::size_t{4} << 30);
  EXPECT_TRUE(step(300));
}

TEST_F(CudaDeviceTest, a_kernel_that_failed_ends_every_step) {
  On on(cuda_test_device());
  const auto cache = on.device().make_cache({}).value();
  cuda::host::Device::instance().fail("a planted failure");
  for (int step = 0; step < 2; ++step) {
    on.device().begin(plain_plan(2), *cache);
    const auto result = on.device().finish();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kCudaError);
    EXPECT_NE(result.error().message.find("planted"), std::string::npos);
  }
}
#endif

TEST_F(CudaDeviceTest, contents_of_pages_and_checkpoints_move) {
  On on(cuda_test_device());
  CacheShape shape;
  shape.layers = {{2, 20, 0}, {1, 8, 64}, {3, 32, 0}}, shape.windows = {0, 64}, shape.pages = {5, 4};
  shape.slot_layers = {{12, 4, 2, 8, 2, 8}, {6, 3, 0, 0, 0, 0}}, shape.checkpoints = 3, shape.slots = 2;
  for (const KvPrecision precision : {KvPrecision::kF32, KvPrecision::kF16, KvPrecision::kQ8_0}) {
    shape.precision = precision;
    const auto cache = on.device().make_cache(shape).value();
    for (const int group : {0, 1, Cache::kCheckpoints}) {
      const int count = group == Cache::kCheckpoints ? 3 : shape.pages[static_cast<std::size_t>(group)];
      std::vector<std::vector<std::byte>> want;
      for (int i = 0; i < count; ++i) {
        auto& bytes = want.emplace_back(cache->content_bytes(group));
        for (std::size_t b = 0; b < bytes.size(); ++b)
          bytes[b] = static_cast<std::byte>(uniform(5, static_cast<std::uint64_t>(i), b) * 256);
        ASSERT_TRUE(cache->write_content(group, i, bytes));
      }
      for (int i = 0; i < count; ++i) {
        std::vector<std::byte> got(want[0].size());
        ASSERT_TRUE(cache->read_content(group, i, got));
        EXPECT_EQ(got, want[static_cast<std::size_t>(i)]) << "group " << group << ", " << i;
      }
    }
  }
}

/// As the worker loads it: the reference's logits, the same bits in any chunk, nothing allocated by a later step.
TEST_F(CudaDeviceTest, a_whole_model_gives_the_references_logits) {
  const TokenIds tokens{1, 9, 30, 7, 7, 41, 3, 12, 5, 28, 60};
  const auto logits = [&](const ModelOptions& options, int chunk) {
    auto model = LoadedModel::load(options);
    EXPECT_TRUE(model) << model.error().message;
    return run_tokens(*model, tokens, chunk).logits;
  };
  ModelOptions options;
  options.path = "builtin:haiku", options.threads = 2;
  ModelOptions reference = options, both = options;
  reference.isa = "reference", options.cuda = &open_cuda_device;
  const auto got = logits(options, 4);
  expect_near(got, logits(reference, 4), 3e-2, "logits of builtin:haiku");
  EXPECT_EQ(got, logits(options, 1));
  EXPECT_EQ(got, logits(options, 512));
  both.isa = "scalar", both.cuda = &open_cuda_device;
  EXPECT_EQ(LoadedModel::load(both).error().code, ErrorCode::kInvalidRequest) << "kernels of the CPU on CUDA";
  options.cuda_index = 3;
  EXPECT_EQ(LoadedModel::load(options).error().code, ErrorCode::kDeviceNotFound);
}

TEST_F(CudaDeviceTest, a_step_as_large_as_one_before_allocates_nothing) {
  ModelOptions options;
  options.path = "builtin:haiku", options.threads = 1, options.cuda = &open_cuda_device;
  auto model = LoadedModel::load(options).value();
  auto& device = static_cast<CudaDevice&>(*model.device);
  const auto cache = device.make_cache(model.model->cache_shape(4, KvPrecision::kF16)).value();
  const std::vector<std::int32_t> pages{2, 0, 3, 1};
  std::size_t bytes = 0;
  for (const int rows : {40, 1, 40, 7}) {
    StepPlan plan;
    plan.add_sequence(pages);
    for (int i = 0; i < rows; ++i) plan.add_row(i, i);
    plan.logit_rows = {rows - 1}, plan.logits_wanted = true;
    ASSERT_TRUE(model.model->forward(plan, *cache));
    if (bytes == 0) bytes = device.memory_bytes();
    EXPECT_EQ(device.memory_bytes(), bytes) << rows << " rows";
  }
}

}  // namespace
}  // namespace llorch
