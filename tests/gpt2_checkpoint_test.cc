// GPT-2, checkpoint by checkpoint (P-41), against Hugging Face transformers in float64, and the mutations that must be
// caught (P-43, T-52).
//
// The tensors are those of the tiny GPT-2 of the goldens: 124M and 350M weights are not at hand here, so CP12's texts
// on the 350M model are not run. CP0 is the worker's HTTP skeleton and belongs to the worker's own tests.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "close.h"
#include "engine/engine.h"
#include "golden.h"
#include "sample/sampler.h"
#include "spoiled.h"

namespace llorch {
namespace {

constexpr int kHeads = 4, kDim = 256, kHeadDim = 64;
constexpr std::size_t kVocab = 320;

double max_abs(std::span<const float> got, std::span<const float> want) {
  EXPECT_EQ(got.size(), want.size());
  double worst = got.empty() ? INFINITY : 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double d = std::fabs(static_cast<double>(got[i]) - want[i]);
    if (!(d <= worst)) worst = d;  // NaN too
  }
  return worst;
}

/// Scaled, causally masked scores (heads, rows, rows) from query and key checkpoints; masked entries are 0.
std::vector<float> scores_of(const std::vector<float>& q, const std::vector<float>& k) {
  const std::size_t rows = q.size() / kDim;
  std::vector<float> scores(kHeads * rows * rows);
  for (std::size_t h = 0; h < kHeads; ++h)
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j <= i; ++j) {
        double dot = 0;
        for (std::size_t d = 0; d < kHeadDim; ++d)
          dot += static_cast<double>(q[i * kDim + h * kHeadDim + d]) * k[j * kDim + h * kHeadDim + d];
        scores[(h * rows + i) * rows + j] = static_cast<float>(dot / std::sqrt(static_cast<double>(kHeadDim)));
      }
  return scores;
}

struct Checkpoint {
  const char* name;
  double error, tolerance;
  [[nodiscard]] bool passes() const { return error <= tolerance; }
};

/// CP1..CP8 in order.
std::vector<Checkpoint> checkpoints(const ForwardRun& run, const Golden& g) {
  const auto want = [&](const char* name) -> const std::vector<float>& {
    return g.values.at(std::string("short/") + name);
  };
  const auto error = [&](const char* name) { return max_abs(run.checkpoints.at(name), want(name)); };
  return {
      {"CP1 LayerNorm", error("layer_00.attn_norm"), 1e-5},
      {"CP2 q", error("layer_00.q"), 1e-4},
      {"CP2 k", error("layer_00.k"), 1e-4},
      {"CP2 v", error("layer_00.v"), 1e-4},
      {"CP4 scores",
       max_abs(scores_of(run.checkpoints.at("layer_00.q_rope"), run.checkpoints.at("layer_00.k_rope")),
               scores_of(want("layer_00.q_rope"), want("layer_00.k_rope"))),
       1e-4},
      {"CP5 attention output", error("layer_00.attn_out"), 1e-4},
      {"CP6 FFN input", error("layer_00.mlp_norm"), 1e-4},
      {"CP6 FFN output", error("layer_00.mlp"), 1e-4},
      {"CP7 first block", error("layer_00.output"), 1e-4},
      {"CP8 logits", max_abs(run.logits, want("logits")), 1e-3},
  };
}

class Gpt2 : public testing::TestWithParam<const char*> {
 protected:
  Golden golden_ = Golden::read(LLORCH_SOURCE_DIR "/tests/golden/gpt2-F32.safetensors");
  ForwardRun run(const std::string& path) {
    LoadedModel model = load_test_model(path, GetParam());
    return run_tokens(model, golden_.short_tokens, 512, KvPrecision::kF32, true);
  }
};

TEST_P(Gpt2, every_checkpoint_in_order) {
  Spoiled unchanged(golden_);
  for (const Checkpoint& c : checkpoints(run(unchanged.write()), golden_)) {
    std::printf("%-9s %-22s %.1e (tolerance %.0e)\n", GetParam(), c.name, c.error, c.tolerance);
    ASSERT_TRUE(c.passes()) << c.name << ": nobody works past a failing checkpoint";
  }
}

TEST_P(Gpt2, cp3_and_cp9_to_cp12) {
  Spoiled unchanged(golden_);
  LoadedModel model = load_test_model(unchanged.write(), GetParam());
  const ForwardRun whole = run_tokens(model, golden_.short_tokens);
  // CP3: keys and values appended one position at a time are read back exactly.
  EXPECT_EQ(run_tokens(model, golden_.short_tokens, 1).logits, whole.logits);
  // CP9: the last position alone is the exact slice of all of them. CP10: its argmax. CP11: its softmax at temperature
  // 0.8.
  const std::vector<float> last(whole.logits.end() - kVocab, whole.logits.end());
  const std::vector<float>& want = golden_.values.at("short/logits");
  const std::vector<float> want_last(want.end() - kVocab, want.end());
  EXPECT_EQ(std::ranges::max_element(last) - last.begin(), std::ranges::max_element(want_last) - want_last.begin());
  double sum_want = 0, sum = 0;
  std::vector<double> p(kVocab);
  const double top = *std::ranges::max_element(want_last);
  for (std::size_t i = 0; i < kVocab; ++i) sum_want += p[i] = std::exp((want_last[i] - top) / 0.8);
  SamplingParams params;
  params.temperature = 0.8;
  Sampler sampler(params, {});
  const auto ours = sampler.distribution(last);
  ASSERT_TRUE(ours);
  for (const auto& [id, probability] : *ours) {
    EXPECT_NEAR(probability, p[static_cast<std::size_t>(id)] / sum_want, 1e-6);
    sum += probability;
  }
  EXPECT_NEAR(sum, 1, 1e-6);
  // CP12 on this model: the greedy continuation, id by id.
  EngineOptions options;
  options.max_batch = 1, options.kv = KvPrecision::kF32;
  const auto engine = Engine::make(*model.model, *model.tokenizer, options).value();
  TokenIds out;
  std::vector<float> first_logits;
  engine->logits_probe = [&](int, int, std::span<const float> l) {
    if (first_logits.empty()) first_logits.assign(l.begin(), l.end());
  };
  GenerateRequest r;
  r.prompt = golden_.short_tokens, r.max_tokens = static_cast<int>(golden_.greedy.size()), r.ignore_eos = true,
  r.sampling.temperature = 0;
  r.sink = [&](const EngineEvent& e) {
    if (const auto* t = std::get_if<TokenEvent>(&e)) out.push_back(t->token.id);
  };
  ASSERT_TRUE(engine->submit(std::move(r)));
  engine->run_until_idle();
  ASSERT_FALSE(golden_.greedy.empty());
  EXPECT_EQ(out, golden_.greedy);
  EXPECT_EQ(first_logits, last);
}

struct Mutation {
  const char* name;
  void (*apply)(Spoiled&);
  const char* first_red;  // the checkpoint that must be the first to fail
};

const Mutation kMutations[] = {
    {"wrong epsilon", [](Spoiled& s) { s.metadata.set("gpt2.attention.layer_norm_epsilon", MetaValue::f32(1e-2f)); },
     "CP1 LayerNorm"},
    {"norm weight scaled by 1 %",
     [](Spoiled& s) {
       s.alter("blk.0.attn_norm.weight", [](std::span<float> v) {
         for (float& x : v) x *= 1.01f;
       });
     },
     "CP1 LayerNorm"},
    {"norm weight and bias swapped",
     [](Spoiled& s) { std::swap(s.tensor("blk.0.attn_norm.weight").data, s.tensor("blk.0.attn_norm.bias").data); },
     "CP1 LayerNorm"},
    {"norm bias zeroed",
     [](Spoiled& s) { s.alter("blk.0.attn_norm.bias", [](std::span<float> v) { std::ranges::fill(v, 0.0f); }); },
     "CP1 LayerNorm"},
    {"qkv bias zeroed",
     [](Spoiled& s) { s.alter("blk.0.attn_qkv.bias", [](std::span<float> v) { std::ranges::fill(v, 0.0f); }); },
     "CP2 q"},
    {"one weight of k flipped",
     [](Spoiled& s) { s.alter("blk.0.attn_qkv.weight", [](std::span<float> v) { v[kDim * kDim + 5] *= -1; }); },
     "CP2 k"},
    {"square projection transposed",
     [](Spoiled& s) {
       s.alter("blk.0.attn_output.weight", [](std::span<float> v) {
         for (std::size_t i = 0; i < kDim; ++i)
           for (std::size_t j = 0; j < i; ++j) std::swap(v[i * kDim + j], v[j * kDim + i]);
       });
     },
     "CP5 attention output"},
    {"eight heads instead of four",
     [](Spoiled& s) {
       for (const char* key : {"gpt2.attention.head_count", "gpt2.attention.head_count_kv"})
         s.metadata.set(key, MetaValue::u32(8));
     },
     "CP5 attention output"},
    {"second norm fed from another gain",
     [](Spoiled& s) { s.tensor("blk.0.ffn_norm.weight").data = s.tensor("blk.1.ffn_norm.weight").data; },
     "CP6 FFN input"},
    {"FFN bias zeroed",
     [](Spoiled& s) { s.alter("blk.0.ffn_down.bias", [](std::span<float> v) { std::ranges::fill(v, 0.0f); }); },
     "CP6 FFN output"},
    {"positions shifted by one",
     [](Spoiled& s) {
       s.alter("position_embd.weight",
               [](std::span<float> v) { std::copy_backward(v.begin(), v.end() - kDim, v.end()); });
     },
     "CP1 LayerNorm"},
    {"second block's weights damaged",
     [](Spoiled& s) { s.alter("blk.1.ffn_up.weight", [](std::span<float> v) { v[0] += 5; }); }, "CP8 logits"},
};

TEST_P(Gpt2, every_mutation_is_caught_at_its_checkpoint) {
  for (const Mutation& m : kMutations) {
    Spoiled s(golden_);
    m.apply(s);
    const std::vector<Checkpoint> all = checkpoints(run(s.write()), golden_);
    const auto red = std::ranges::find_if(all, [](const Checkpoint& c) { return !c.passes(); });
    ASSERT_NE(red, all.end()) << m.name << " was not caught";
    EXPECT_STREQ(red->name, m.first_red) << m.name;
    std::printf("%-9s %-34s caught at %s, error %.1e\n", GetParam(), m.name, red->name, red->error);
  }
}

TEST(Gpt2Shapes, a_transposed_weight_and_heads_that_do_not_divide_are_shape_errors) {
  Spoiled transposed("tiny-gpt2", "F32");
  std::swap(transposed.tensor("blk.0.ffn_up.weight").dims[0], transposed.tensor("blk.0.ffn_up.weight").dims[1]);
  EXPECT_NE(transposed.error().find("has shape [1024, 256], expected [256, 1024]"), std::string::npos);
  Spoiled heads("tiny-gpt2", "F32");
  heads.metadata.set("gpt2.attention.head_count", MetaValue::u32(12));
  EXPECT_NE(heads.error().find("cannot be split into 12 heads"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(isas, Gpt2, testing::Values("reference", "scalar", ""),
                         [](const auto& p) { return std::string(*p.param ? p.param : "best"); });

}  // namespace
}  // namespace llorch
