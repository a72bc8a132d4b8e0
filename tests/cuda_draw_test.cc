// The end of a step on a CUDA device: from equal logits it draws the host's tokens and gives the host's log
// probabilities, to the bits, and leaves the logits as they were.
#include <cmath>

#include "cuda_conformance.h"

namespace llorch {
namespace {

/// Rows of a step and what they are drawn with; everything that SamplingRows refer to.
struct Drawing {
  std::vector<std::vector<float>> logits;
  std::vector<SamplingParams> params;
  std::vector<std::vector<KnownToken>> known;
  std::vector<std::vector<std::uint32_t>> allowed;
  std::vector<std::uint64_t> steps;
  std::vector<std::int32_t> given;

  void add(std::vector<float> row, SamplingParams p, std::uint64_t step = 0) {
    logits.push_back(std::move(row)), params.push_back(std::move(p)), steps.push_back(step);
    known.emplace_back(), allowed.emplace_back(), given.push_back(-1);
  }
  [[nodiscard]] SamplingRow row(std::size_t i) const {
    SamplingRow row;
    row.params = &params[i], row.known = known[i], row.step = steps[i], row.allowed = allowed[i], row.given = given[i];
    return row;
  }
};

std::vector<float> random_logits(std::size_t count, double spread, std::uint64_t which) {
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>((uniform(31, which, i) - 0.5) * spread);
  return out;
}

void expect_hosts_draws(const Drawing& d) {
  On on(cuda_test_device());
  const auto rows = static_cast<std::int64_t>(d.logits.size()), width = static_cast<std::int64_t>(d.logits[0].size());
  std::vector<float> all;
  for (const auto& row : d.logits) all.insert(all.end(), row.begin(), row.end());
  const FloatSpan logits = on.put(rows, width, all);
  const auto cache = on.device().make_cache({}).value();
  StepPlan plan = plain_plan(static_cast<int>(rows));
  for (std::size_t i = 0; i < d.logits.size(); ++i) {
    plan.logit_rows.push_back(static_cast<std::int32_t>(i));
    plan.sampling.push_back(d.row(i));
  }
  on.device().begin(plan, *cache);
  on.device().give_logits(logits);
  const auto result = on.device().finish();
  ASSERT_TRUE(result) << result.error().message;
  ASSERT_EQ(result->sampled.size(), d.logits.size());
  SamplingScratch scratch;
  for (std::size_t i = 0; i < d.logits.size(); ++i) {
    const Result<Sampled> want = sample_row(d.logits[i], d.row(i), scratch);
    const Result<Sampled>& got = result->sampled[i];
    const std::string what = fmt::format("row {} of {}", i, width);
    ASSERT_EQ(got.has_value(), want.has_value()) << what;
    if (!want) {
      EXPECT_EQ(got.error().message, want.error().message) << what;
      continue;
    }
    EXPECT_EQ(got->id, want->id) << what;
    EXPECT_EQ(got->logprob, want->logprob) << what;
    ASSERT_EQ(got->top.size(), want->top.size()) << what;
    for (std::size_t t = 0; t < want->top.size(); ++t) {
      EXPECT_EQ(got->top[t].id, want->top[t].id) << what << ", alternative " << t;
      EXPECT_EQ(got->top[t].logprob, want->top[t].logprob) << what << ", alternative " << t;
    }
  }
  const std::vector<float> after = on.get(logits);
  for (std::size_t i = 0; i < all.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(after[i]), std::bit_cast<std::uint32_t>(all[i])) << "logit " << i;
}

class CudaDraw : public testing::Test {
 protected:
  void SetUp() override { LLORCH_NEED_CUDA(); }
  void TearDown() override { set_cuda_order("forward"); }
};

/// Every stage, alone and with the others, for several numbers of the draw.
Drawing all_stages(std::size_t vocabulary, double spread, std::uint64_t which) {
  Drawing d;
  for (int stages = 0; stages < 32; ++stages) {
    SamplingParams p;
    p.seed = which + static_cast<std::uint64_t>(stages), p.choice = 3;
    p.temperature = stages & 1 ? 0.7 : 1.3;
    if (stages & 2) p.top_k = stages & 1 ? 7 : 40;
    if (stages & 4) p.top_p = stages & 1 ? 0.5 : 0.95;
    if (stages & 8) p.min_p = stages & 1 ? 0.2 : 0.02;
    if (stages & 16) p.top_logprobs = stages & 1 ? 20 : 3;
    d.add(random_logits(vocabulary, spread, which * 100 + static_cast<std::uint64_t>(stages)), p,
          static_cast<std::uint64_t>(stages));
  }
  return d;
}

TEST_F(CudaDraw, every_stage_at_every_size) {
  for (const std::size_t vocabulary : {1u, 64u, 65u, 320u, 4097u})
    for (const double spread : {0.0, 3.0, 30.0}) expect_hosts_draws(all_stages(vocabulary, spread, vocabulary));
}

TEST_F(CudaDraw, a_whole_vocabulary) {
  Drawing d = all_stages(151'936, 25, 4), few;
  for (const std::size_t i : {0u, 4u, 6u, 9u, 30u}) few.add(d.logits[i], d.params[i], i);
  SamplingParams wide;  // more than one piece of the likeliest is drawn from
  wide.top_k = 3000, wide.top_p = 0.999, wide.temperature = 2;
  few.add(random_logits(151'936, 0.2, 5), wide);
  wide.top_k = 0, wide.top_p = 0.02;
  few.add(random_logits(151'936, 0.2, 6), wide);
  expect_hosts_draws(few);
}

TEST_F(CudaDraw, biases_penalties_masks_and_given_tokens) {
  constexpr std::size_t kVocabulary = 1000;
  Drawing d;
  for (int i = 0; i < 12; ++i) {
    SamplingParams p;
    p.seed = static_cast<std::uint64_t>(i), p.temperature = i % 4 == 0 ? 0 : 0.9;
    p.repetition_penalty = i % 2 ? 1.3 : 1, p.presence_penalty = 0.4, p.frequency_penalty = -0.3;
    if (i % 3 == 0) p.top_k = 50;
    p.top_logprobs = 5;
    d.add(random_logits(kVocabulary, 8, static_cast<std::uint64_t>(i)), p);
    for (int k = 0; k < 20 * i; ++k)
      d.known.back().push_back({k * 4, static_cast<float>(k % 5 - 2) * 1.5f, k % 2 == 0, k % 4});
    if (i % 4 == 1)  // ends before the vocabulary does: the rest is not allowed
      for (int word = 0; word < 20; ++word) d.allowed.back().push_back(0x10204081u << (word % 7));
  }
  d.known[8].push_back({999, 100, false, 0});  // whatever else, this one
  d.given[3] = 77, d.known[3].clear();
  d.params[3].top_logprobs = 0;
  d.given[6] = 0, d.known[6].clear(), d.params[6].top_logprobs = -1;
  expect_hosts_draws(d);
}

TEST_F(CudaDraw, equal_logits_are_taken_by_id) {
  Drawing d;
  for (const double temperature : {0.0, 1.0})
    for (const int k : {0, 1, 5}) {
      SamplingParams p;
      p.temperature = temperature, p.top_k = k, p.top_p = k == 5 ? 0.3 : 1, p.top_logprobs = 4;
      std::vector<float> flat(300, 1.5f);
      d.add(flat, p, static_cast<std::uint64_t>(k));
      for (std::size_t i = 0; i < flat.size(); i += 2) flat[i] = i % 4 == 0 ? 0.0f : -0.0f;  // one zero
      d.add(flat, p, static_cast<std::uint64_t>(k));
    }
  expect_hosts_draws(d);
}

TEST_F(CudaDraw, what_cannot_be_drawn_is_the_host_s_error) {
  Drawing d;
  SamplingParams p;
  d.add(random_logits(200, 3, 1), p), d.add(random_logits(200, 3, 2), p), d.add(random_logits(200, 3, 3), p);
  d.add(random_logits(200, 3, 4), p), d.add(random_logits(200, 3, 5), p);
  d.logits[0][150] = NAN;
  d.logits[1][3] = INFINITY, d.known[1].push_back({3, -100, false, 0});
  d.allowed[2].assign(7, 0);
  d.logits[3][0] = 3e38f, d.params[3].temperature = 0.01;
  d.logits[4][9] = -INFINITY, d.given[4] = 2;
  expect_hosts_draws(d);
}

TEST_F(CudaDraw, the_order_of_threads_does_not_matter) {
  for (const char* order : test_orders()) {
    set_cuda_order(order);
    expect_hosts_draws(all_stages(700, 6, 9));
  }
}

}  // namespace
}  // namespace llorch
