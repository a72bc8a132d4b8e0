// Decode steps of some sequences, each of which goes on with the tokens that it drew: for tests that compute the same
// steps in two ways.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <set>

#include "engine/engine.h"
#include "golden.h"

namespace llorch {

struct DecodeSteps {
  explicit DecodeSteps(ModelOptions options) {
    model = LoadedModel::load(options).value();
    EngineOptions engine;
    engine.pages = kSequences * kPages, engine.max_batch = kSequences;
    cache = Engine::take_memory(*model->model, engine).value();
    for (int s = 0; s < kSequences; ++s)
      for (int p = 0; p < kPages; ++p) tables[static_cast<std::size_t>(s)].push_back(s * kPages + kPages - 1 - p);
  }

  static constexpr int kSequences = 4, kSteps = 10, kPrompt = 60;  // the steps cross a border of pages
  static constexpr int kPages = (kPrompt + kSteps + 63) / 64;

  /// Each sequence's next token, drawn with a seed of its own from what it said before.
  StepPlan next(int position) {
    StepPlan plan;
    plan.logits_wanted = true;
    for (std::size_t s = 0; s < kSequences; ++s) {
      plan.add_sequence(tables[s], static_cast<std::int32_t>(s));
      plan.add_row(last[s], position);
      plan.logit_rows.push_back(static_cast<std::int32_t>(s));
      plan.sampling.push_back(samplers[s].row(static_cast<std::uint64_t>(position - kPrompt)));
    }
    return plan;
  }
  void prefill() {
    for (int s = 0; s < kSequences; ++s) {
      StepPlan plan;
      plan.add_sequence(tables[static_cast<std::size_t>(s)], s);
      for (int i = 0; i < kPrompt; ++i) plan.add_row((i * 31 + s * 77) % 319, i);
      ASSERT_TRUE(model->model->forward(plan, *cache));
      SamplingParams params;
      params.seed = static_cast<std::uint64_t>(s), params.temperature = 0.7 + 0.1 * s, params.top_k = 10 * s;
      params.repetition_penalty = 1.2;
      samplers.emplace_back(params, std::vector<std::int32_t>{1, 2, 3});
      last.push_back(s);
    }
  }
  void take(const StepResult& result) {
    for (std::size_t s = 0; s < kSequences; ++s) {
      ASSERT_TRUE(result.sampled[s]);
      last[s] = result.sampled[s]->id;
      samplers[s].accept(last[s]);
      tokens.push_back(last[s]);
    }
    logits.insert(logits.end(), result.logits.begin(), result.logits.end());
  }

  std::optional<LoadedModel> model;
  std::unique_ptr<Cache> cache;
  std::array<std::vector<std::int32_t>, kSequences> tables;
  std::vector<Sampler> samplers;
  std::vector<std::int32_t> last, tokens;
  std::vector<float> logits;
};

inline void expect_same_bits(const DecodeSteps& a, const DecodeSteps& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  ASSERT_EQ(a.logits.size(), b.logits.size());
  ASSERT_FALSE(a.logits.empty());
  EXPECT_EQ(std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)), 0);
  const std::set<std::int32_t> distinct(a.tokens.begin(), a.tokens.end());
  EXPECT_GT(distinct.size(), 5u) << "what is compared should differ from step to step";
}

}  // namespace llorch
