// Memory of a CUDA device: predicted before loading, taken at load, and not by steps; what does not fit.
#include "cuda_conformance.h"
#include "device/decorator.h"
#include "engine/engine.h"
#include "golden.h"
#include "tiny_models.h"

namespace llorch {
namespace {

#ifdef LLORCH_CUDA_EMULATED
cuda::host::Device& emulated() { return cuda::host::Device::instance(); }
std::int64_t bytes_in_use() {
  return static_cast<std::int64_t>(emulated().memory_bytes() - emulated().memory_free_bytes());
}

class CudaMemory : public testing::TestWithParam<TinyModel> {
 protected:
  void TearDown() override {
    emulated().reset();
    emulated().set_memory_bytes(std::size_t{4} << 30);
  }
  void SetUp() override {
    const Status made = make_tiny(GetParam(), scratch_ / "m.gguf");
    ASSERT_TRUE(made) << made.error().message;
  }
  [[nodiscard]] ModelOptions options() const {
    ModelOptions options;
    options.path = scratch_ / "m.gguf", options.threads = 1, options.rows_max = 64, options.cuda = &open_cuda_device;
    options.sequences = engine_.max_batch;
    options.take_memory = [this](Model& model) { return Engine::take_memory(model, engine_); };
    return options;
  }
  ScratchDirectory scratch_;
  EngineOptions engine_{.max_batch = 4, .prefill_chunk = 32};
};

class CudaMemoryLimits : public CudaMemory {};

GenerateRequest request_of(int prompt, int tokens, int which) {
  GenerateRequest request;
  for (int i = 0; i < prompt; ++i) request.prompt.push_back((i * 37 + which * 11) % 300);
  request.max_tokens = tokens, request.ignore_eos = true;
  request.sampling.seed = static_cast<std::uint64_t>(which);
  return request;
}

TEST_P(CudaMemory, all_of_it_is_predicted_and_taken_at_load) {
  const std::int64_t before = bytes_in_use();
  const auto loaded = LoadedModel::load(options());
  ASSERT_TRUE(loaded) << loaded.error().message;
  const auto engine = Engine::make(*loaded->model, *loaded->tokenizer, engine_).value();
  const std::int64_t taken = bytes_in_use() - before, predicted = loaded->predicted_bytes;
  EXPECT_GT(predicted, 100'000);
  EXPECT_LE(std::abs(predicted - taken), taken / 50) << "predicted " << predicted << ", taken " << taken;

  const std::uint64_t allocations = emulated().allocations();
  int ended = 0;
  for (int i = 0; i < 7; ++i) {  // more than run together, of all lengths, with everything that a plan can have
    const int longest = loaded->model->graph().context - 10;  // attention splits what is long
    GenerateRequest request = request_of(i == 2 ? std::min(longest, 300) : 1 + i * 13, 9, i);
    if (i % 2) request.sampling.repetition_penalty = 1.3;
    if (i % 3 == 1) request.sampling.top_logprobs = 5, request.score_prompt = true;
    if (i % 3 == 2) request.sampling.top_k = 20, request.sampling.top_p = 0.9;
    if (i == 3)
      for (int id = 0; id < 250; ++id) request.sampling.logit_bias.emplace_back(id, 1.0);
    if (i == 5) request.embedding = Pooling::kMean;
    request.sink = [&](const EngineEvent& event) {
      const auto* error = std::get_if<Error>(&event);
      EXPECT_FALSE(error) << error->message;
      ended += std::holds_alternative<EndEvent>(event) || std::holds_alternative<EmbeddingEvent>(event);
    };
    ASSERT_TRUE(engine->submit(std::move(request)));
  }
  engine->run_until_idle();
  EXPECT_GE(ended, 7);
  EXPECT_EQ(emulated().allocations(), allocations) << "a step took memory";
  EXPECT_EQ(bytes_in_use() - before, taken);
}

TEST_P(CudaMemoryLimits, a_request_that_can_never_fit_ends_alone) {
  engine_.pages = 1;
  const auto loaded = LoadedModel::load(options()).value();
  const auto engine = Engine::make(*loaded.model, *loaded.tokenizer, engine_).value();
  std::vector<Error> errors;
  int ended = 0;
  for (const int tokens : {4, 60, 5}) {
    GenerateRequest request = request_of(20, tokens, tokens);
    request.sink = [&](const EngineEvent& event) {
      if (const auto* error = std::get_if<Error>(&event)) errors.push_back(*error);
      ended += std::holds_alternative<EndEvent>(event);
    };
    ASSERT_TRUE(engine->submit(std::move(request)));
  }
  engine->run_until_idle();
  EXPECT_EQ(ended, 2);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].code, ErrorCode::kVramOom);
  for (const char* part : {"alloc of", "(2 pages)", "the cache has 1 pages", "1 of them free", "--kv-cache-size-mb"})
    EXPECT_TRUE(errors[0].message.contains(part)) << errors[0].message;
}

TEST_P(CudaMemoryLimits, a_model_that_does_not_fit_is_refused_before_loading) {
  ModelOptions options = this->options();
  const std::int64_t need = LoadedModel::load(options).value().predicted_bytes;
  ModelOptions too_large = options;
  bool began = false;
  too_large.progress = [&](const LoadProgress&) { began = true; };
  emulated().set_memory_bytes(static_cast<std::size_t>(bytes_in_use() + need * 98 / 100));
  const auto refused = LoadedModel::load(too_large);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInsufficientVram);
  for (const std::int64_t number : {need, need * 98 / 100 - std::int64_t{4096}})  // a device holds 4 KiB of its own
    EXPECT_TRUE(refused.error().message.contains(std::to_string(number))) << refused.error().message;
  EXPECT_FALSE(began);
  emulated().set_memory_bytes(static_cast<std::size_t>(bytes_in_use() + need + 8192));
  const auto fits = LoadedModel::load(options);
  ASSERT_TRUE(fits) << fits.error().message;
  EXPECT_TRUE(Engine::make(*fits->model, *fits->tokenizer, engine_));
}

/// A device that wants some of its free memory to stay free.
class Reserving final : public DeviceDecorator {
 public:
  using DeviceDecorator::DeviceDecorator;
  static constexpr std::int64_t kBytes = 7'654'321;
  std::optional<MemoryUse> memory() const override {
    auto use = DeviceDecorator::memory();
    use->reserve = kBytes;
    return use;
  }
};

TEST_P(CudaMemoryLimits, what_a_device_keeps_for_itself_counts) {
  ModelOptions options = this->options();
  const std::int64_t need = LoadedModel::load(options).value().predicted_bytes;
  options.decorate = [](std::unique_ptr<Device> inner) { return std::make_unique<Reserving>(std::move(inner)); };
  emulated().set_memory_bytes(static_cast<std::size_t>(bytes_in_use() + need + Reserving::kBytes));  // 4 KiB too few
  const auto refused = LoadedModel::load(options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInsufficientVram);
  EXPECT_TRUE(refused.error().message.contains("and 7654321 more for the driver")) << refused.error().message;
  emulated().set_memory_bytes(emulated().memory_bytes() + 4096);
  EXPECT_TRUE(LoadedModel::load(options));
}

INSTANTIATE_TEST_SUITE_P(all, CudaMemory, testing::ValuesIn(kTinyModels), [](const auto& p) { return p.param.name; });
INSTANTIATE_TEST_SUITE_P(all, CudaMemoryLimits, testing::Values(kTinyModels[0], kTinyModels[2]),
                         [](const auto& p) { return p.param.name; });

TEST(CudaMemoryMessage, says_how_much_is_free_and_what_helps) {
  const auto device = cuda_test_device();
  const auto huge = device->allocate(std::int64_t{1} << 30, 1 << 4);
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code, ErrorCode::kVramOom);
  for (const std::string& part : {std::to_string(std::int64_t{1} << 36), std::to_string(emulated().memory_free_bytes()),
                                  std::string("--max-batch")})
    EXPECT_TRUE(huge.error().message.contains(part)) << part << ": " << huge.error().message;
}
#endif

}  // namespace
}  // namespace llorch
