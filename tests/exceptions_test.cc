// What is thrown on the engine's thread ends the request that it belongs to, or those of the pass; the engine goes on
// and no page of the cache is lost (15.11).
#include <gtest/gtest.h>

#include <new>

#include "device/decorator.h"
#include "engine/engine.h"
#include "golden.h"

namespace llorch {
namespace {

/// Has no memory for steps of many rows.
class Narrow final : public DeviceDecorator {
 public:
  Narrow(std::unique_ptr<Device> inner, ErrorCode code) : DeviceDecorator(std::move(inner)), code_(code) {}
  static constexpr std::size_t kRowsMax = 100;
  void begin(const StepPlan& plan, Cache& cache) override {
    too_many_ = plan.rows.size() > kRowsMax;
    inner().begin(plan, cache);
  }
  Result<StepResult> finish() override {
    auto result = inner().finish();
    if (too_many_) return fail(code_, "no memory for so many rows");
    return result;
  }

 private:
  ErrorCode code_;
  bool too_many_ = false;
};

struct Ended {
  int tokens = 0;
  std::string error;
  bool whole = false;
};

class Exceptions : public testing::Test {
 protected:
  Exceptions() {
    arch::SynthRequest request;
    request.shape = "tiny-gpt-oss", request.type = "Q8_0";
    EXPECT_TRUE(arch::synthesize(request, scratch_ / "m.gguf"));
    model_ = load_test_model(scratch_ / "m.gguf", "");
    EngineOptions options;
    options.pages = 12, options.max_batch = 3;
    engine_ = Engine::make(*model_->model, *model_->tokenizer, options).value();
  }
  /// `fault` may throw at each event.
  std::shared_ptr<Ended> submit(std::function<void(const EngineEvent&)> fault = {}, int salt = 0) {
    auto ended = std::make_shared<Ended>();
    GenerateRequest r;
    for (int i = 0; i < 70; ++i) r.prompt.push_back((i * 7 + salt) % 319);
    r.max_tokens = 8, r.ignore_eos = true;
    r.sink = [ended, fault = std::move(fault)](const EngineEvent& e) {
      if (fault) fault(e);
      if (std::holds_alternative<TokenEvent>(e)) ++ended->tokens;
      if (std::holds_alternative<EndEvent>(e)) ended->whole = true;
      if (const auto* error = std::get_if<Error>(&e)) ended->error = name(error->code);
    };
    EXPECT_TRUE(engine_->submit(std::move(r)));
    return ended;
  }
  void expect_all_free() {
    engine_->run_until_idle();
    EXPECT_EQ(engine_->running() + engine_->waiting(), 0);
    EXPECT_EQ(engine_->pages().available(), engine_->pages().total());
    const auto again = submit();
    engine_->run_until_idle();
    EXPECT_TRUE(again->whole) << "the engine does not go on: " << again->error;
  }
  ScratchDirectory scratch_;
  std::optional<LoadedModel> model_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(Exceptions, of_a_requests_own_sink_end_that_request) {
  const auto good = submit();
  const auto bad = submit(
      [](const EngineEvent& e) {
        if (std::holds_alternative<TokenEvent>(e)) throw std::bad_alloc();
      },
      1);
  const auto early = submit(
      [](const EngineEvent& e) {
        if (std::holds_alternative<StartedEvent>(e)) throw std::runtime_error("no");
      },
      2);
  engine_->run_until_idle();
  EXPECT_TRUE(good->whole);
  EXPECT_EQ(bad->error, "INSUFFICIENT_MEMORY");
  EXPECT_EQ(early->error, "INTERNAL");
  expect_all_free();
}

TEST_F(Exceptions, of_a_pass_end_its_requests) {
  int routings = 0;  // one a layer and pass
  model_->model->router_probe = [&](const std::string&, std::span<float>) {
    if (++routings == 6) throw std::bad_alloc();
  };
  const auto a = submit(), b = submit({}, 1);
  engine_->run_until_idle();
  EXPECT_EQ(a->error, "INSUFFICIENT_MEMORY");
  EXPECT_EQ(b->error, "INSUFFICIENT_MEMORY");
  expect_all_free();
}

TEST_F(Exceptions, an_end_that_could_not_be_told_is_told_later) {
  int tries = 0;
  const auto bad = submit([&](const EngineEvent& e) {
    if (std::holds_alternative<EndEvent>(e) && ++tries < 3) throw std::bad_alloc();
  });
  engine_->run_until_idle();
  EXPECT_EQ(tries, 3);
  EXPECT_TRUE(bad->whole);
  expect_all_free();
}

/// Of the device, or of the host for copies.
class OfMemory : public Exceptions, public testing::WithParamInterface<ErrorCode> {};

TEST_P(OfMemory, a_step_that_finds_none_ends_the_largest_request_alone) {
  ModelOptions options;
  options.path = scratch_ / "m.gguf", options.threads = 2, options.rows_max = 256;
  options.decorate = [](std::unique_ptr<Device> inner) {
    return std::make_unique<Narrow>(std::move(inner), GetParam());
  };
  const LoadedModel model = LoadedModel::load(options).value();
  engine_ = Engine::make(*model.model, *model.tokenizer, {.pages = 12, .max_batch = 3, .prefill_chunk = 256}).value();
  TokenIds alone, together;
  const auto submit = [&](int prompt, TokenIds& tokens, std::string& error) {
    GenerateRequest r;
    for (int i = 0; i < prompt; ++i) r.prompt.push_back(i * 7 % 319);
    r.max_tokens = 8, r.ignore_eos = true;
    r.sink = [&tokens, &error](const EngineEvent& e) {
      if (const auto* t = std::get_if<TokenEvent>(&e)) tokens.push_back(t->token.id);
      if (const auto* problem = std::get_if<Error>(&e))
        error = fmt::format("{} {}", name(problem->code), problem->message);
    };
    EXPECT_TRUE(engine_->submit(std::move(r)));
  };
  std::string none, also_none, refused;
  submit(30, alone, none);
  engine_->run_until_idle();
  engine_->evict_cache();
  TokenIds nothing;
  submit(30, together, also_none);
  submit(150, nothing, refused);
  engine_->run_until_idle();
  EXPECT_EQ(none + also_none, "");
  EXPECT_TRUE(refused.starts_with(name(GetParam())) && refused.contains("no memory for so many rows")) << refused;
  EXPECT_EQ(alone.size(), 8u);
  EXPECT_EQ(together, alone);
  EXPECT_TRUE(nothing.empty());
  EXPECT_EQ(engine_->pages().available(), engine_->pages().total());
  engine_.reset();
}

INSTANTIATE_TEST_SUITE_P(all, OfMemory, testing::Values(ErrorCode::kVramOom, ErrorCode::kInsufficientMemory),
                         [](const auto& p) { return p.param == ErrorCode::kVramOom ? "device" : "host"; });

}  // namespace
}  // namespace llorch
