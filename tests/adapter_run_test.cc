// Adapters in the engine: requests with different ones share a batch, a cache of pages and a model, and each has the
// bits that it has alone, cut in any way, cached, rested and paused; nothing cached is shared between adapters.
#include <gtest/gtest.h>

#include "adapters.h"
#include "device/recording.h"
#include "engine/engine.h"
#include "kernel/kernels.h"

namespace llorch {
namespace {

struct Trace {
  std::vector<float> logits;  // of every sampled position
  TokenIds tokens;
  int cached = -1;
};

bool same(const Trace& a, const Trace& b) {
  return a.tokens == b.tokens && !a.logits.empty() && a.logits.size() == b.logits.size() &&
         std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)) == 0;
}

struct RunCase {
  std::string model;  // a shape, or a model of the zoo
  std::string isa;
  friend std::ostream& operator<<(std::ostream& out, const RunCase& c) { return out << c.model << ' ' << c.isa; }
};

std::vector<RunCase> cases() {
  std::vector<RunCase> list{{"tiny-llama", "reference"}};
  int count = 0;
  const auto* const* all = kernel::all_kernels(count);
  for (int i = 0; i < count; ++i) list.push_back({"tiny-llama", all[i]->name});
  for (const char* model : {"tiny-qwen2", "tiny-gpt-oss", "qwen3_5", "gemma3", "phi3"}) list.push_back({model, ""});
  return list;
}

class AdapterRun : public testing::TestWithParam<RunCase> {
 protected:
  static constexpr int kNone = -1, kFirst = 0, kSecond = 1, kOut = 6;

  void SetUp() override {
    if (kSanitized && GetParam().model == "tiny-llama" && GetParam().isa != kernel::best_kernels().name)
      GTEST_SKIP() << "not run under sanitizers: the same code paths run in other cases, this one in release";
    std::string path = scratch_ / "model.gguf";
    if (GetParam().model.starts_with("tiny-")) {
      arch::SynthRequest request;
      request.shape = GetParam().model, request.type = "Q4_K_M", request.seed = 5;
      ASSERT_TRUE(arch::synthesize(request, path));
    } else {
      LLORCH_NEED_TEST_DATA(zoo, "models/zoo/" + GetParam().model);
      path = zoo + "/model-f32.gguf";
    }
    options_.path = path, options_.isa = GetParam().isa, options_.threads = 2, options_.rows_max = 512;
    options_.context = GetParam().model.starts_with("tiny-") ? 256 : 512;  // which bounds the rows of a step, too
    alone_ = std::make_unique<LoadedModel>(LoadedModel::load(options_).value());
    options_.adapters = {{"first", scratch_ / "1.gguf", 1}, {"second", scratch_ / "2.gguf", 1}};
    for (const std::uint64_t i : {1, 2}) write_adapter(scratch_ / fmt::format("{}.gguf", i), i);
    model_ = std::make_unique<LoadedModel>(LoadedModel::load(options_).value());
  }
  /// Of all matrices of the blocks that can be adapted; the second of rank 5, of half of them.
  void write_adapter(const std::string& path, std::uint64_t number) const {
    std::set<std::string> names;
    const Graph& graph = alone_->model->graph();
    for_each_adaptable(graph, [&](const Linear& l) {
      const std::string& name = graph.tensors[static_cast<std::size_t>(l.weight.index)].tensor;
      if (name != "token_embd.weight") names.insert(name);
    });
    std::vector<TestPair> pairs;
    for (const std::string& name : names) {
      const TensorView* t = alone_->source->find(name);
      if (number == 1 || pairs.empty() || fnv1a64(name) % 2 == 0)
        pairs.push_back(random_pair(name, t->rows(), t->columns(), number == 1 ? 8 : 5, number));
    }
    const std::string family = alone_->source->metadata().text("general.architecture").value();
    write_gguf_adapter(path, pairs, adapter_metadata(family, 10));
  }
  [[nodiscard]] TokenIds words(int count, int salt) const {
    TokenIds ids;
    for (int i = 0; i < count; ++i) ids.push_back((i * 37 + salt * 101 + 5) % (model_->model->graph().vocab - 20));
    return ids;
  }

  class Run {
   public:
    Run(LoadedModel& model, int pages = 40, int chunk = 48, bool prefix_cache = true, int batch = 8) {
      EngineOptions options;
      options.pages = pages, options.max_batch = batch, options.prefill_chunk = chunk, options.model_id = "test";
      options.prefix_cache = prefix_cache;
      engine_ = Engine::make(*model.model, *model.tokenizer, options).value();
      engine_->logits_probe = [this](int id, int, std::span<const float> logits) {
        auto& all = traces_[id].logits;
        all.insert(all.end(), logits.begin(), logits.end());
      };
    }
    int submit(const TokenIds& prompt, int adapter, int count = kOut) {
      GenerateRequest r;
      r.prompt = prompt, r.max_tokens = count, r.ignore_eos = true, r.sampling.seed = 3, r.adapter = adapter;
      const int slot = next_++;
      r.sink = [this, slot](const EngineEvent& e) {
        if (const auto* started = std::get_if<StartedEvent>(&e)) traces_[slot].cached = started->cached_tokens;
        if (const auto* token = std::get_if<TokenEvent>(&e)) traces_[slot].tokens.push_back(token->token.id);
        if (const auto* error = std::get_if<Error>(&e)) ADD_FAILURE() << error->message;
      };
      EXPECT_EQ(engine_->submit(std::move(r)).value(), slot);
      return slot;
    }
    const Trace& say(const TokenIds& prompt, int adapter, int count = kOut) {
      const int id = submit(prompt, adapter, count);
      engine_->run_until_idle();
      return traces_[id];
    }
    Trace& trace(int id) { return traces_[id]; }
    Engine& engine() { return *engine_; }

   private:
    std::map<int, Trace> traces_;
    std::unique_ptr<Engine> engine_;
    int next_ = 1;
  };

  ScratchDirectory scratch_;
  ModelOptions options_;
  std::unique_ptr<LoadedModel> alone_, model_;  // without and with adapters
};

TEST_P(AdapterRun, a_batch_of_all_kinds_has_the_bits_that_each_has_alone) {
  std::vector<Trace> want;
  for (int i = 0; i < 6; ++i) {
    Run one(i % 3 == 0 ? *alone_ : *model_, 40, 512, false);
    want.push_back(one.say(words(50 + 9 * i, i / 3), i % 3 - 1));
  }
  for (const int chunk : {16, 128}) {  // 128: more rows than an MLP computes at a time
    Run together(*model_, 40, chunk, false);
    std::vector<int> ids;
    for (int i = 0; i < 6; ++i) ids.push_back(together.submit(words(50 + 9 * i, i / 3), i % 3 - 1));
    together.engine().run_until_idle();
    for (std::size_t i = 0; i < 6; ++i) EXPECT_TRUE(same(together.trace(ids[i]), want[i])) << i << ", chunk " << chunk;
  }
}

TEST_P(AdapterRun, adapters_change_what_is_said_and_chunks_change_nothing) {
  const TokenIds prompt = words(70, 1);
  std::vector<Trace> whole;
  for (const int adapter : {kNone, kFirst, kSecond}) {
    whole.push_back(Run(*model_, 40, 128, false).say(prompt, adapter));
    for (const int chunk : {1, 7, 64})
      EXPECT_TRUE(same(Run(*model_, 40, chunk, false).say(prompt, adapter), whole.back())) << adapter << " " << chunk;
  }
  EXPECT_FALSE(same(whole[0], whole[1]));
  EXPECT_FALSE(same(whole[0], whole[2]));
  EXPECT_FALSE(same(whole[1], whole[2]));
}

/// The same prompt with each adapter: what is cached serves that adapter alone, and changes no bit.
TEST_P(AdapterRun, nothing_cached_is_shared_between_adapters) {
  if (GetParam().isa == "scalar") GTEST_SKIP() << "not run on scalar kernels: what is cached is no matter of kernels";
  const TokenIds prompt = words(150, 2);
  Run run(*model_);
  std::map<int, Trace> first;
  for (const int adapter : {kNone, kFirst, kSecond}) {
    const Trace cold = run.say(prompt, adapter);
    EXPECT_EQ(cold.cached, 0) << adapter;
    EXPECT_TRUE(same(cold, Run(*model_, 40, 128, false).say(prompt, adapter))) << adapter;
    const Trace warm = run.say(prompt, adapter);
    EXPECT_EQ(warm.cached, 128) << adapter;
    EXPECT_TRUE(same(warm, cold)) << adapter;
  }
  ModelOptions other = options_;
  other.adapters[0].scale = 0.5f;
  LoadedModel weaker = LoadedModel::load(other).value();
  EXPECT_NE(weaker.model->adapters()[0].identity, model_->model->adapters()[0].identity);
  EXPECT_EQ(weaker.model->adapters()[1].identity, model_->model->adapters()[1].identity);
}

TEST_P(AdapterRun, those_who_rest_or_pause_say_the_same) {
  if (GetParam().isa == "scalar") GTEST_SKIP() << "not run on scalar kernels: who rests is no matter of kernels";
  Run small(*model_, 5, 48, true, 3), large(*model_, 64, 48, false, 3);
  std::vector<int> ids;
  for (int i = 0; i < 6; ++i) {
    ids.push_back(small.submit(words(20 + 11 * i, i), i % 3 - 1, 90));
    EXPECT_EQ(large.submit(words(20 + 11 * i, i), i % 3 - 1, 90), ids.back());
  }
  for (int i = 0; i < 8; ++i) small.engine().step();
  small.engine().pause(ids[1], true);
  for (int i = 0; i < 20; ++i) small.engine().step();
  small.engine().pause(ids[1], false);
  small.engine().run_until_idle(), large.engine().run_until_idle();
  EXPECT_GT(small.engine().rests(), 0);
  for (const int id : ids) EXPECT_TRUE(same(small.trace(id), large.trace(id))) << id;
}

TEST_P(AdapterRun, unknown_adapters_are_refused) {
  Run run(*model_), without(*alone_);
  for (const int number : {-2, 2, 1000}) {
    GenerateRequest r;
    r.prompt = {1}, r.adapter = number;
    const auto refused = run.engine().submit(std::move(r));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidRequest);
  }
  GenerateRequest r;
  r.prompt = {1}, r.adapter = 0;
  EXPECT_FALSE(without.engine().submit(std::move(r)));
}

INSTANTIATE_TEST_SUITE_P(all, AdapterRun, testing::ValuesIn(cases()), [](const auto& p) {
  std::string name = p.param.model + "_" + (p.param.isa.empty() ? "best" : p.param.isa);
  std::ranges::replace(name, '-', '_');
  return name;
});

/// Adapters are in the plan, and a recorded step takes them from there.
TEST(AdapterRecording, a_replayed_step_has_the_adapters_of_its_own_plan) {
  const ScratchDirectory scratch;
  arch::SynthRequest request;
  request.shape = "tiny-llama", request.type = "Q4_K_M", request.seed = 3;
  ASSERT_TRUE(arch::synthesize(request, scratch / "m.gguf"));
  const auto base = open_model(scratch / "m.gguf").value();
  for (const std::uint64_t i : {1, 2}) {
    std::vector<TestPair> pairs;
    for (const char* name : {"blk.0.attn_q.weight", "blk.1.ffn_down.weight", "blk.1.ffn_up.weight"})
      pairs.push_back(random_pair(name, base->find(name)->rows(), base->find(name)->columns(), 3, i));
    write_gguf_adapter(scratch / fmt::format("{}.gguf", i), pairs, adapter_metadata("llama", 6));
  }
  RecordingDevice* device = nullptr;
  ModelOptions options;
  options.path = scratch / "m.gguf", options.threads = 2;
  options.adapters = {{"one", scratch / "1.gguf", 1}, {"two", scratch / "2.gguf", 1}};
  options.decorate = [&](std::unique_ptr<Device> inner) {
    auto made = std::make_unique<RecordingDevice>(std::move(inner));
    device = made.get();
    return made;
  };
  LoadedModel model = LoadedModel::load(options).value();
  const auto cache = model.device->make_cache(model.model->cache_shape(4, KvPrecision::kF16)).value();
  const std::array<std::vector<std::int32_t>, 4> tables{{{0}, {1}, {2}, {3}}};
  const auto plan_with = [&](const std::array<int, 4>& adapters) {
    StepPlan plan;
    plan.logits_wanted = true;
    for (std::size_t s = 0; s < 4; ++s) {
      plan.add_sequence(tables[s]).adapter = adapters[s];
      plan.add_row(7, 0), plan.add_row(9, 1);
      plan.logit_rows.push_back(static_cast<std::int32_t>(2 * s + 1));
    }
    return plan;
  };
  const auto walk = [&](const std::array<int, 4>& adapters) {
    const auto result = model.model->forward(plan_with(adapters), *cache).value();
    return std::vector<float>(result.logits.begin(), result.logits.end());
  };
  const std::vector<float> first = walk({0, -1, 1, 0}), second = walk({-1, 1, 1, 0}), none = walk({-1, -1, -1, -1});
  EXPECT_NE(first, second);
  device->record();
  EXPECT_EQ(walk({-1, -1, -1, -1}), none);
  const int before = device->host_accesses();
  for (const auto& [adapters, want] : {std::pair{std::array{0, -1, 1, 0}, first}, {std::array{-1, 1, 1, 0}, second}}) {
    const auto result = device->run_again(plan_with(adapters), *cache).value();
    EXPECT_EQ(std::vector<float>(result.logits.begin(), result.logits.end()), want);
  }
  EXPECT_EQ(device->host_accesses(), before);
}

/// Low-rank sums are fixed as all others are.
TEST(AdapterIsas, every_instruction_set_without_tiles_gives_the_same_bits) {
  const ScratchDirectory scratch;
  arch::SynthRequest request;
  request.shape = "tiny-llama", request.type = "Q8_0", request.seed = 8;
  ASSERT_TRUE(arch::synthesize(request, scratch / "m.gguf"));
  const auto base = open_model(scratch / "m.gguf").value();
  std::vector<TestPair> pairs;
  for (const char* name : {"blk.0.attn_k.weight", "blk.0.attn_output.weight", "blk.1.ffn_gate.weight"})
    pairs.push_back(random_pair(name, base->find(name)->rows(), base->find(name)->columns(), 7, 4));
  write_gguf_adapter(scratch / "a.gguf", pairs, adapter_metadata("llama", 6));
  TokenIds tokens;
  for (int i = 0; i < 50; ++i) tokens.push_back((i * 31 + 3) % 300);
  std::vector<float> want;
  int count = 0, compared = 0;
  const auto* const* all = kernel::all_kernels(count);
  for (int i = 0; i < count; ++i) {
    if (!all[i]->canonical) continue;
    ModelOptions options;
    options.path = scratch / "m.gguf", options.isa = all[i]->name, options.threads = 2;
    options.adapters = {{"a", scratch / "a.gguf", 1}};
    const LoadedModel model = LoadedModel::load(options).value();
    std::vector<float> got;
    ASSERT_TRUE(forward_all({*model.model, 0}, tokens, 33, KvPrecision::kF16,
                            [&](int, std::span<const float> row) { got.insert(got.end(), row.begin(), row.end()); }));
    if (want.empty()) want = got;
    ASSERT_EQ(got.size(), want.size());
    EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0) << all[i]->name;
    ++compared;
  }
  std::printf("adapters: %d instruction sets compared\n", compared);
}

}  // namespace
}  // namespace llorch
