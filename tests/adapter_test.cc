// Adapters from both kinds of file against the same model with B A merged into its weights, which the reference
// computes in double; and what is refused, by name.
#include "adapters.h"

#include "device/cpu/cpu_device.h"
#include "engine/adapters.h"
#include "kernel/kernels.h"
#include "zoo.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;

/// A model without its tokenizer, and some adapters.
struct Body {
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Device> device;
  std::unique_ptr<Model> model;

  Body(const std::string& path, const std::string& isa, int context, const std::vector<arch::AdapterRef>& refs = {}) {
    source = open_model(path).value(), device = make_cpu_device(isa, 2).value();
    Graph graph = arch::read_graph(*source, context).value();
    const auto adapters = read_adapters(refs, *source, graph);
    if (!adapters) throw std::runtime_error(adapters.error().message);  // gtest reports it as this test's failure
    model = Model::load(*device, *source, std::move(graph), {}).value();
    for (const Adapter& a : *adapters) EXPECT_TRUE(model->add_adapter(a));
  }

  /// Logits of every position, of an encoder its states.
  std::vector<float> values(const TokenIds& ids, int adapter, int chunk = 512) {
    std::vector<float> all;
    if (!model->graph().whole_prompts) {
      const Status done =
          forward_all({*model, adapter}, ids, chunk, KvPrecision::kF32,
                      [&](int, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); });
      EXPECT_TRUE(done) << done.error().message;
      return all;
    }
    const auto cache = device->make_cache(model->cache_shape(1, KvPrecision::kF32)).value();
    const std::vector<std::int32_t> pages{0};
    StepPlan plan;
    plan.add_sequence(pages).adapter = adapter;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      plan.state_rows.push_back(static_cast<std::int32_t>(i));
      plan.add_row(ids[i], static_cast<std::int32_t>(i));
    }
    const auto result = model->forward(plan, *cache);
    EXPECT_TRUE(result && result->finite_rows(0, ids.size()));
    return {result->states.begin(), result->states.end()};
  }
};

std::vector<std::string> isas() {
  int count = 0;
  const auto* const* all = kernel::all_kernels(count);
  std::vector<std::string> names{"reference"};
  for (int i = 0; i < count; ++i) names.emplace_back(all[i]->name);
  return names;
}

class Adapters : public testing::TestWithParam<ZooModel> {
 protected:
  void SetUp() override {
    LLORCH_NEED_TEST_DATA(folder, fmt::format("models/zoo/{}", GetParam().folder));
    folder_ = folder;
    context_ = std::string_view(GetParam().folder) == "phi3" ? 1024 : 0;
    for (int i = 0; i < 24; ++i) ids_.push_back((i * 53 + 11) % 300);
  }
  [[nodiscard]] std::string gguf() const { return folder_ + "/model-f32.gguf"; }
  /// Which of these can be adapted; the others are refused by their names.
  template<class Write>
  std::vector<TestPair> accepted(const std::vector<TestPair>& all, const std::string& path, const Write& write) {
    const auto base = open_model(gguf()).value();
    const Graph graph = arch::read_graph(*base, context_).value();
    std::vector<TestPair> out;
    for (const TestPair& pair : all) {
      write(std::vector{pair});
      if (const auto one = arch::read_adapter({"one", path, 1}, *base, graph)) {
        out.push_back(pair);
      } else {
        EXPECT_EQ(one.error().code, ErrorCode::kModelLoadFailed);
        EXPECT_NE(one.error().message.find("'" + pair.name + "'"), std::string::npos) << one.error().message;
        EXPECT_NE(one.error().message.find("adapter 'one'"), std::string::npos) << one.error().message;
        refused_.push_back(pair.name);
      }
    }
    return out;
  }
  /// `truth`: a model with the pairs merged, times 1.5.
  void expect_merged(const std::string& truth, const std::string& adapter, const std::vector<std::string>& bases) {
    const std::vector<float> want = Body(truth, "reference", context_).values(ids_, -1);
    double worst = 0, worst_merged = 0;
    for (const std::string& base : bases)
      for (const std::string& isa : isas()) {
        Body body(base, isa, context_, {{"one", adapter, 1.5f}});
        const std::vector<float> got = body.values(ids_, 0);
        // No further off than the merged weights are themselves on these kernels.
        const double own = relative_error(Body(truth, isa, context_).values(ids_, -1), want);
        const double error = relative_error(got, want), bound = isa == "amx" ? 1e-3 : GetParam().bound;
        worst = std::max(worst, error), worst_merged = std::max(worst_merged, own);
        EXPECT_LT(error, std::max(bound, 2 * own)) << base << " " << isa << ", merged: " << own;
        EXPECT_GT(relative_error(body.values(ids_, -1), want), 100 * bound) << "the adapter changes too little";
        if (body.model->graph().whole_prompts) continue;
        EXPECT_EQ(body.values(ids_, 0, 3), got) << isa << ": the bits depend on the chunk";
      }
    std::string names;
    for (const std::string& name : refused_)
      if (name.find(".experts.") == name.npos && name.find("_exps") == name.npos) names += " " + name;
    std::printf("adapters %-22s error %.1e, of merged weights %.1e; not adapted:%s\n", GetParam().folder, worst,
                worst_merged, names.c_str());
  }

  std::string folder_;
  int context_ = 0;
  TokenIds ids_;
  ScratchDirectory scratch_;
  std::vector<std::string> refused_;
};

TEST_P(Adapters, of_gguf_equal_merged_weights) {
  const auto base = open_model(gguf()).value();
  std::vector<TestPair> all;
  for (const TensorView& t : base->tensors())
    if (t.n_dims >= 2) all.push_back(random_pair(t.name, t.rows(), t.columns(), 4, 1));
  const std::string path = scratch_ / "adapter.gguf";
  const auto write = [&](const std::vector<TestPair>& pairs) {
    write_gguf_adapter(path, pairs, adapter_metadata(GetParam().family, 6));
  };
  const std::vector<TestPair> pairs = accepted(all, path, write);
  ASSERT_GE(pairs.size(), 6u);
  write(pairs);
  write_merged_gguf(*base, pairs, 6.0 / 4 * 1.5, scratch_ / "merged.gguf");
  expect_merged(scratch_ / "merged.gguf", path, {gguf()});
}

/// Of both forms of the base: their tensors are the same.
TEST_P(Adapters, of_peft_equal_merged_weights) {
  const std::string hf = folder_ + "/hf", path = scratch_ / "adapter";
  std::vector<TestPair> all;
  const SafetensorsDirectory source = SafetensorsDirectory::open(hf).value();
  for (const TensorView& t : source.tensors())
    if (t.n_dims == 2 && t.name.ends_with(".weight"))
      all.push_back(random_pair(t.name.substr(0, t.name.size() - 7), t.rows(), t.columns(), 3, 2));
  json::object config = peft_config(3, 4);
  config["use_rslora"] = true;
  const auto write = [&](const std::vector<TestPair>& pairs) { write_peft(path, halves_of(pairs), config); };
  const std::vector<TestPair> pairs = accepted(all, path, write);
  ASSERT_GE(pairs.size(), 6u);
  write(pairs);
  write_merged_hf(hf, pairs, 4 / std::sqrt(3.0) * 1.5, scratch_ / "merged");
  expect_merged(scratch_ / "merged", path, {gguf(), hf});
}

INSTANTIATE_TEST_SUITE_P(zoo, Adapters, testing::ValuesIn(kZoo), [](const auto& p) { return p.param.folder; });

}  // namespace
}  // namespace llorch
