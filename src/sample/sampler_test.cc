// Each stage against a distribution computed by hand, the order of the stages, and the draw against chi-square
// (E-34..37, T-40, T-41).
#include "sample/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/random.h"

namespace llorch {
namespace {

using Logits = std::vector<float>;

/// Logits of the given probabilities.
Logits logits_of(std::vector<double> p) {
  Logits l;
  for (const double v : p) l.push_back(static_cast<float>(std::log(v)));
  return l;
}

std::map<int, double> distribution(const SamplingParams& params, const Logits& logits,
                                   std::vector<std::int32_t> prompt = {}, std::span<const std::uint32_t> allowed = {}) {
  Sampler sampler(params, prompt);
  sampler.allow(allowed);
  const auto d = sampler.distribution(logits);
  EXPECT_TRUE(d) << d.error().message;
  std::map<int, double> map;
  for (const auto& [id, p] : *d) map[id] = p;
  return map;
}

void expect_distribution(const std::map<int, double>& got, const std::map<int, double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [id, p] : want) {
    ASSERT_TRUE(got.contains(id)) << id;
    EXPECT_NEAR(got.at(id), p, 1e-6) << id;
  }
}

const Logits kFour = logits_of({0.5, 0.25, 0.15, 0.1});

TEST(Sampler, plain_distribution_is_the_softmax) {
  expect_distribution(distribution({}, kFour), {{0, .5}, {1, .25}, {2, .15}, {3, .1}});
}

TEST(Sampler, temperature_raises_probabilities_to_its_inverse) {
  SamplingParams p;
  p.temperature = 0.5;  // squares: .25, .0625, .0225, .01 over .345
  expect_distribution(distribution(p, kFour), {{0, .25 / .345}, {1, .0625 / .345}, {2, .0225 / .345}, {3, .01 / .345}});
}

TEST(Sampler, top_k_keeps_every_token_equal_to_the_kth) {
  SamplingParams p;
  p.top_k = 2;
  expect_distribution(distribution(p, kFour), {{0, 2.0 / 3}, {1, 1.0 / 3}});
  expect_distribution(distribution(p, logits_of({0.4, 0.2, 0.2, 0.2})), {{0, .4}, {1, .2}, {2, .2}, {3, .2}});
}

TEST(Sampler, top_p_keeps_the_crossing_token) {
  SamplingParams p;
  p.top_p = 0.6;
  expect_distribution(distribution(p, kFour), {{0, 2.0 / 3}, {1, 1.0 / 3}});
  p.top_p = 0.4;
  expect_distribution(distribution(p, kFour), {{0, 1}});
  p.top_p = 0;
  expect_distribution(distribution(p, kFour), {{0, 1}});
}

TEST(Sampler, min_p_is_relative_to_the_largest) {
  SamplingParams p;
  p.min_p = 0.3;  // keeps >= .15
  const Logits l = logits_of({0.5, 0.25, 0.16, 0.09});
  expect_distribution(distribution(p, l), {{0, .5 / .91}, {1, .25 / .91}, {2, .16 / .91}});
}

TEST(Sampler, penalties_act_on_logits) {
  SamplingParams p;
  p.repetition_penalty = 2;
  Sampler repetition(p, std::vector<std::int32_t>{0, 0, 1});
  const auto d = repetition.distribution(Logits{2, -1, 0.5f});  // 2/2, -1*2, 0.5
  const double e0 = std::exp(1), e1 = std::exp(-2), e2 = std::exp(0.5), sum = e0 + e1 + e2;
  ASSERT_TRUE(d);
  for (const auto& [id, probability] : *d) EXPECT_NEAR(probability, (id == 0 ? e0 : id == 1 ? e1 : e2) / sum, 1e-6);

  SamplingParams q;
  q.presence_penalty = 0.5, q.frequency_penalty = 0.25, q.temperature = 0;
  Sampler counting(q, std::vector<std::int32_t>{2, 2, 2});  // the prompt does not count
  const Logits l{1.0f, 0.9f, 0.0f};
  EXPECT_EQ(counting.sample(l, 0)->id, 0);
  EXPECT_EQ(counting.sample(l, 1)->id, 1);  // 1 - .75 = .25 < .9
  EXPECT_EQ(counting.sample(l, 2)->id, 0);  // .25 > .9 - .75
}

TEST(Sampler, bias_and_allowed_tokens_come_before_everything) {
  SamplingParams p;
  p.temperature = 0;
  p.logit_bias = {{3, 10.0}};
  EXPECT_EQ(distribution(p, kFour).begin()->first, 3);
  const std::uint32_t allowed[] = {0b0110};
  EXPECT_EQ(distribution(p, kFour, {}, allowed).begin()->first, 1);
  p.temperature = 1, p.logit_bias.clear();
  expect_distribution(distribution(p, kFour, {}, allowed), {{1, .625}, {2, .375}});
}

// Each of these pairs gives another answer when two stages change places.
TEST(Sampler, stages_come_in_the_documented_order) {
  SamplingParams p;
  p.temperature = 2,
  p.top_p =
      0.55;  // at temperature 1 one token passes 0.5 but two are needed for .55; at 2 the roots: .38 .27 .21 .17 -> two
  EXPECT_EQ(distribution(p, kFour).size(), 2u);
  p.temperature = 0.5, p.top_p = 0.6;  // after temperature the first has .72: one token; before it two
  EXPECT_EQ(distribution(p, kFour).size(), 1u);
  p = {};
  p.top_k = 2, p.top_p = 0.6;  // after top-k the first has .667: one token; over all survivors of no top-k two
  EXPECT_EQ(distribution(p, kFour).size(), 1u);
  p = {};
  p.logit_bias = {{0, -100.0}}, p.repetition_penalty = 2;  // bias first: -100.69 * 2; penalty first would give -101.4
  Sampler s(p, std::vector<std::int32_t>{0});
  EXPECT_EQ(s.distribution(kFour)->size(), 4u);
}

TEST(Sampler, greedy_takes_the_lowest_id_of_equals_and_draws_nothing) {
  SamplingParams p;
  p.temperature = 1e-7;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    p.seed = seed;
    Sampler s(p, {});
    EXPECT_EQ(s.sample(Logits{1, 3, 3, 2}, seed)->id, 1);
  }
}

TEST(Sampler, draws_depend_on_seed_choice_and_step_alone) {
  SamplingParams p;
  p.seed = 42;
  Sampler a(p, {}), b(p, {});
  for (std::uint64_t step = 0; step < 20; ++step) EXPECT_EQ(a.sample(kFour, step)->id, b.sample(kFour, step)->id);
  Sampler late(p, {});
  EXPECT_EQ(late.sample(kFour, 19)->id, a.sample(kFour, 19)->id);
  int differing = 0;
  p.choice = 1;
  Sampler other(p, {});
  for (std::uint64_t step = 0; step < 50; ++step)
    differing += other.sample(kFour, step)->id != a.sample(kFour, step)->id;
  EXPECT_GT(differing, 10);
}

TEST(Sampler, a_hundred_thousand_draws_pass_chi_square) {
  const std::vector<double> p{0.4, 0.3, 0.15, 0.1, 0.04, 0.01};
  const Logits l = logits_of(p);
  SamplingParams params;
  params.seed = 7;
  Sampler s(params, {});
  constexpr int kDraws = 100'000;
  std::vector<int> seen(p.size());
  for (int i = 0; i < kDraws; ++i) ++seen[static_cast<std::size_t>(s.sample(l, static_cast<std::uint64_t>(i))->id)];
  double chi = 0;
  for (std::size_t i = 0; i < p.size(); ++i) chi += std::pow(seen[i] - kDraws * p[i], 2) / (kDraws * p[i]);
  EXPECT_LT(chi, 20.5);  // 5 degrees of freedom, one in a thousand
  EXPECT_GT(chi, 0.1);   // draws, not quotas
}

/// The stages by their definition, over a sorted vocabulary.
std::vector<std::pair<std::int32_t, double>> by_definition(const SamplingParams& p, const Logits& logits,
                                                           const std::vector<std::uint32_t>& allowed) {
  std::vector<std::pair<std::int32_t, double>> all;
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (allowed.empty() || allowed[i / 32] >> (i % 32) & 1)
      all.emplace_back(static_cast<std::int32_t>(i), logits[i] * static_cast<float>(1 / p.temperature));
  std::ranges::stable_sort(all, [](const auto& a, const auto& b) { return a.second > b.second; });
  if (const auto k = static_cast<std::size_t>(p.top_k); k > 0 && k < all.size()) {
    const double least = all[k - 1].second;
    std::erase_if(all, [&](const auto& c) { return c.second < least; });
  }
  const auto normalize = [&] {
    double sum = 0;
    for (const auto& c : all) sum += c.second;
    for (auto& c : all) c.second /= sum;
  };
  const double top = all.front().second;
  for (auto& c : all) c.second = std::exp(c.second - top);
  normalize();
  if (p.top_p < 1) {
    double sum = 0;
    std::size_t n = 0;
    while (n < all.size() && (n == 0 || sum < p.top_p)) sum += all[n++].second;
    all.resize(n);
  }
  const double most = all.front().second;
  std::erase_if(all, [&](const auto& c) { return c.second < p.min_p * most; });
  normalize();
  std::ranges::sort(all);
  return all;
}

TEST(Sampler, large_vocabularies_follow_the_definition) {
  for (const std::size_t n : {100u, 151'936u, 50'257u})  // blocks of 64 that end within the last, and that do not
    for (const double spread : {0.5, 4.0, 40.0})
      for (int which = 0; which < 9; ++which) {
        Logits l(n);
        for (std::size_t i = 0; i < n; ++i) l[i] = static_cast<float>((uniform(n, 3, i) - 0.5) * spread);
        l[n / 3] = l[n / 2];  // equals
        SamplingParams p;
        p.temperature = which % 2 ? 0.7 : 1, p.seed = 5;
        if (which == 1 || which == 2 || which == 7) p.top_k = which == 2 ? 60 : which == 7 ? 5000 : 1;
        if (which == 2 || which == 3 || which == 4) p.top_p = which == 4 ? 0.999 : 0.9;
        if (which == 5 || which == 2) p.min_p = 0.05;
        std::vector<std::uint32_t> allowed(which == 6 ? (n + 31) / 32 : 0);
        for (std::size_t i = 3; !allowed.empty() && i < n; i += 70) allowed[i / 32] |= 1u << (i % 32);
        if (which == 8) p.top_p = 0;
        Sampler s(p, {});
        s.allow(allowed);
        auto got = s.distribution(l);
        ASSERT_TRUE(got) << got.error().message;
        std::ranges::sort(*got);
        const auto want = by_definition(p, l, allowed);
        ASSERT_EQ(got->size(), want.size()) << n << ' ' << spread << ' ' << which;
        for (std::size_t i = 0; i < want.size(); ++i) {
          ASSERT_EQ((*got)[i].first, want[i].first);
          ASSERT_NEAR((*got)[i].second, want[i].second, 1e-9 * want[i].second + 1e-300);
        }
        auto order = want;  // in [0, 1): by likelihood where something is left out by it, else by id
        if ((p.top_k > 0 && static_cast<std::size_t>(p.top_k) < n) || p.top_p < 1 || p.min_p > 0)
          std::ranges::stable_sort(order, [](const auto& a, const auto& b) { return a.second > b.second; });
        double before = 0;
        std::map<std::int32_t, std::pair<double, double>> parts;
        for (const auto& [id, probability] : order) {
          parts[id] = {before, before + probability};
          before += probability;
        }
        for (std::uint64_t step = 0; step < 20; ++step) {
          const auto drawn = s.sample(l, step);
          ASSERT_TRUE(drawn);
          const double u = uniform(p.seed, p.choice, step);
          EXPECT_GE(u, parts[drawn->id].first - 1e-9) << n << ' ' << which;
          EXPECT_LE(u, parts[drawn->id].second + 1e-9) << n << ' ' << which;
        }
      }
}

TEST(Sampler, logprobs_of_large_vocabularies_follow_the_definition) {
  Logits l(151'936);
  for (std::size_t i = 0; i < l.size(); ++i) l[i] = static_cast<float>(uniform(8, 9, i) * 20);
  l[7] = l[151'935] = 21, l[9] = -800;  // two equals at the top; one that is as good as impossible
  SamplingParams p;
  p.top_logprobs = 20;
  const auto r = Sampler(p, {}).sample(l, 0);
  ASSERT_TRUE(r);
  const auto probabilities = softmax(l);
  ASSERT_TRUE(probabilities);
  std::vector<std::int32_t> ids(l.size());
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
  std::ranges::stable_sort(
      ids, [&](auto a, auto b) { return l[static_cast<std::size_t>(a)] > l[static_cast<std::size_t>(b)]; });
  ASSERT_EQ(r->top.size(), 20u);
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(r->top[i].id, ids[i]);
    EXPECT_NEAR(r->top[i].logprob, std::log((*probabilities)[static_cast<std::size_t>(ids[i])]), 1e-9);
  }
  EXPECT_NEAR(r->logprob, std::log((*probabilities)[static_cast<std::size_t>(r->id)]), 1e-9);
}

TEST(Sampler, logprobs_of_a_grammar_are_of_the_allowed_tokens) {
  const std::uint32_t allowed[] = {0b0110};
  SamplingParams p;
  p.top_logprobs = 3;
  Sampler s(p, {});
  s.allow(allowed);
  const auto r = s.sample(kFour, 0);
  ASSERT_TRUE(r);
  ASSERT_EQ(r->top.size(), 2u);  // the others cannot come
  EXPECT_EQ(r->top[0].id, 1);
  EXPECT_NEAR(r->top[0].logprob, std::log(.625), 1e-6);
  EXPECT_NEAR(r->top[1].logprob, std::log(.375), 1e-6);
  EXPECT_NEAR(r->logprob, std::log(r->id == 1 ? .625 : .375), 1e-6);
}

TEST(Softmax, sums_to_one_over_real_vocabularies) {
  for (const std::size_t n : {50'257u, 151'936u, 201'088u}) {
    Logits l(n);
    for (std::size_t i = 0; i < n; ++i) l[i] = static_cast<float>(uniform(1, 2, i) * 0.01);  // flat: every entry counts
    const auto p = softmax(l);
    ASSERT_TRUE(p);
    double sum = 0;
    for (const double v : *p) sum += v;
    EXPECT_NEAR(sum, 1, 1e-9);
    EXPECT_NEAR((*p)[n / 2] * static_cast<double>(n), 1, 0.02);
  }
}

TEST(Softmax, refuses_what_is_not_finite) {
  EXPECT_FALSE(softmax(Logits{}));
  EXPECT_FALSE(softmax(Logits{NAN, 1}));
  EXPECT_FALSE(softmax(Logits{INFINITY, 1}));
  EXPECT_FALSE(softmax(Logits{-INFINITY, -INFINITY}));
  SamplingParams p;
  for (const double t : {0.0, 1.0}) {
    p.temperature = t;
    Sampler s(p, {});
    const auto r = s.sample(Logits{1, NAN, 2}, 0);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, ErrorCode::kInferenceFailed);
  }
}

TEST(Sampler, logprobs_are_the_models_own) {
  SamplingParams p;
  p.temperature = 0, p.top_logprobs = 2, p.logit_bias = {{1, 100.0}};
  Sampler s(p, {});
  const auto r = s.sample(kFour, 0);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->id, 1);
  EXPECT_NEAR(r->logprob, std::log(0.25), 1e-6);
  ASSERT_EQ(r->top.size(), 2u);
  EXPECT_EQ(r->top[0].id, 0);
  EXPECT_NEAR(r->top[1].logprob, std::log(0.25), 1e-6);
}

TEST(Sampler, validation_lists_every_violation) {
  SamplingParams p;
  p.temperature = 3, p.top_p = -1, p.repetition_penalty = 0, p.logit_bias = {{99, 1.0}};
  const Status s = validate(p, 10);
  ASSERT_FALSE(s);
  for (const char* field : {"temperature", "top_p", "repetition_penalty", "logit_bias"})
    EXPECT_NE(s.error().message.find(field), std::string::npos) << field;
  EXPECT_TRUE(validate({}, 10));
}

}  // namespace
}  // namespace llorch
