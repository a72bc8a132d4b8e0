#include "sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.h"
#include "kernel/vocabulary.h"

namespace llorch {
namespace {

constexpr double kGreedyBelow = 1e-6;
constexpr float kNever = -std::numeric_limits<float>::infinity();

using Candidate = std::pair<std::int32_t, double>;

/// The most likely first, of equals the lower id; as a heap order.
bool less_likely(const Candidate& a, const Candidate& b) {
  return a.second < b.second || (a.second == b.second && a.first > b.first);
}

/// Keeps the smallest set whose probability reaches p, the crossing token included.
void keep_top_p(std::vector<Candidate>& list, double p) {
  if (p >= 1) return;
  std::make_heap(list.begin(), list.end(), less_likely);
  std::vector<Candidate> kept;
  double sum = 0;
  for (auto end = list.end(); end != list.begin() && (kept.empty() || sum < p);) {
    std::pop_heap(list.begin(), end, less_likely);
    kept.push_back(*--end);
    sum += kept.back().second;
  }
  list = std::move(kept);
}

void keep_min_p(std::vector<Candidate>& list, double p) {
  if (p <= 0) return;
  double top = 0;
  for (const Candidate& c : list) top = std::max(top, c.second);
  std::erase_if(list, [&](const Candidate& c) { return c.second < p * top; });
}

}  // namespace

Status validate(const SamplingParams& p, int vocab) {
  std::vector<std::string> problems;
  const auto need = [&](bool ok, const char* text) {
    if (!ok) problems.emplace_back(text);
  };
  need(p.temperature >= 0 && p.temperature <= 2, "temperature: range(0.0..=2.0)");
  need(p.top_k >= 0 && p.top_k <= vocab, "top_k: range(0..=vocab_size)");
  need(p.top_p >= 0 && p.top_p <= 1, "top_p: range(0.0..=1.0)");
  need(p.min_p >= 0 && p.min_p <= 1, "min_p: range(0.0..=1.0)");
  need(p.repetition_penalty > 0 && p.repetition_penalty <= 2, "repetition_penalty: range(0.0<..=2.0)");
  need(p.presence_penalty >= -2 && p.presence_penalty <= 2, "presence_penalty: range(-2.0..=2.0)");
  need(p.frequency_penalty >= -2 && p.frequency_penalty <= 2, "frequency_penalty: range(-2.0..=2.0)");
  need(p.top_logprobs >= -1 && p.top_logprobs <= 20, "top_logprobs: range(0..=20)");
  need(p.mask.empty() || p.mask.size() == static_cast<std::size_t>(vocab), "mask: one entry per token");
  for (const auto& [id, bias] : p.logit_bias)
    need(id >= 0 && id < vocab && std::isfinite(bias), "logit_bias: known token, finite bias");
  if (problems.empty()) return {};
  return fail(ErrorCode::kInvalidRequest, "{}", fmt::join(problems, "; "));
}

Result<std::vector<double>> softmax(std::span<const float> logits) {
  if (logits.empty()) return fail(ErrorCode::kInferenceFailed, "softmax over nothing");
  const float top = *std::ranges::max_element(logits);
  if (!std::isfinite(top)) return fail(ErrorCode::kInferenceFailed, "the largest logit is not finite");
  std::vector<double> p(logits.size());
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i)
    sum += p[i] = std::exp(static_cast<double>(logits[i]) - static_cast<double>(top));
  double check = 0;
  for (double& v : p) {
    v /= sum;
    if (!(v >= 0)) return fail(ErrorCode::kInferenceFailed, "a probability is not a number");
    check += v;
  }
  if (!(std::fabs(check - 1) < 1e-6)) return fail(ErrorCode::kInferenceFailed, "probabilities sum to {}", check);
  return p;
}

Sampler::Sampler(SamplingParams params, std::span<const std::int32_t> prompt) : params_(std::move(params)) {
  for (const auto& [id, bias] : params_.logit_bias) known(id).bias += static_cast<float>(bias);
  if (params_.repetition_penalty != 1)
    for (const std::int32_t id : prompt) known(id).seen = true;
}

Sampler::Known& Sampler::known(std::int32_t id) {
  const auto [at, fresh] = places_.emplace(id, known_.size());
  if (fresh) known_.push_back({.id = id});
  return known_[at->second];
}

Result<float> Sampler::adjust(std::span<const float> logits, float factor) {
  const auto top = vocabulary::copy_finite_scaled(logits, factor, adjusted_, maxima_);
  if (!top) return fail(ErrorCode::kInferenceFailed, "the model produced a logit that is not finite");
  if (known_.empty() && params_.mask.empty()) return *top;
  const auto penalty = static_cast<float>(params_.repetition_penalty);
  for (const Known& k : known_) {
    float v = logits[static_cast<std::size_t>(k.id)] + k.bias;
    if (k.seen && penalty != 1) v = v > 0 ? v / penalty : v * penalty;
    if (k.times > 0) v -= static_cast<float>(params_.presence_penalty + params_.frequency_penalty * k.times);
    adjusted_[static_cast<std::size_t>(k.id)] = v * factor;
  }
  for (std::size_t i = 0; i < params_.mask.size(); ++i)
    if (!params_.mask[i]) adjusted_[i] = kNever;
  if (!params_.mask.empty()) return vocabulary::scale(adjusted_, 1, maxima_);
  for (const Known& k : known_) vocabulary::renew_block(adjusted_, static_cast<std::size_t>(k.id), maxima_);
  return *std::ranges::max_element(maxima_);
}

/// Few tokens survive top_k: their softmax alone.
void Sampler::keep_top_k(float top) {
  const auto k = static_cast<std::size_t>(params_.top_k);
  const float least = vocabulary::kth_largest(adjusted_, maxima_, k, scratch_);
  kept_.clear();
  double sum = 0;
  vocabulary::for_each_from(adjusted_, maxima_, least, [&](std::size_t i) {
    if (adjusted_[i] == kNever) return;
    kept_.emplace_back(static_cast<std::int32_t>(i),
                       std::exp(static_cast<double>(adjusted_[i]) - static_cast<double>(top)));
    sum += kept_.back().second;
  });
  for (Candidate& c : kept_) c.second /= sum;
}

/// Tokens that top_p or min_p may keep: all below a share of (1 - top_p) / vocabulary are less than 1 - top_p together,
/// and so never needed.
void Sampler::keep_likely(double sum) {
  const double share = params_.top_p < 1 ? (1 - params_.top_p) / static_cast<double>(adjusted_.size()) * 0.999 : 0;
  const double least = std::max(share, params_.min_p / sum * 0.999) * sum;  // the likeliest has 1 / sum
  kept_.clear();
  for (std::size_t b = 0; b < sums_.size(); ++b) {
    if (sums_[b] < least) continue;
    for (std::size_t i = b * vocabulary::kBlock; i < std::min(weights_.size(), (b + 1) * vocabulary::kBlock); ++i)
      if (weights_[i] >= least && weights_[i] > 0) kept_.emplace_back(static_cast<std::int32_t>(i), weights_[i] / sum);
  }
}

Result<double> Sampler::survive(std::span<const float> logits) {
  const bool greedy = params_.temperature < kGreedyBelow;
  LLORCH_TRY(const float top, adjust(logits, greedy ? 1 : static_cast<float>(1 / params_.temperature)));
  if (top == kNever) return fail(ErrorCode::kInferenceFailed, "the mask allows no token");
  if (!std::isfinite(top)) return fail(ErrorCode::kInferenceFailed, "the largest logit is not finite");
  all_ = false;
  if (greedy) {
    const auto best = std::ranges::find(adjusted_, top);  // the first of equals
    kept_.assign(1, {static_cast<std::int32_t>(best - adjusted_.begin()), 1.0});
    return 1;
  }
  if (params_.top_k > 0 && static_cast<std::size_t>(params_.top_k) < adjusted_.size()) {
    keep_top_k(top);
  } else {
    const double sum = vocabulary::exponentials(adjusted_, top, weights_, sums_);
    all_ = params_.top_p >= 1 && params_.min_p <= 0;
    if (all_) return sum;
    keep_likely(sum);
  }
  keep_top_p(kept_, params_.top_p);
  keep_min_p(kept_, params_.min_p);
  double sum = 0;
  for (const Candidate& c : kept_) sum += c.second;
  return sum;
}

Result<std::vector<Candidate>> Sampler::distribution(std::span<const float> logits) {
  LLORCH_TRY(const double sum, survive(logits));
  std::vector<Candidate> out;
  if (all_) {
    for (std::size_t i = 0; i < weights_.size(); ++i)
      if (weights_[i] > 0) out.emplace_back(static_cast<std::int32_t>(i), weights_[i] / sum);
  } else {
    for (const Candidate& c : kept_) out.emplace_back(c.first, c.second / sum);
  }
  return out;
}

/// The first token whose share and all before it exceed `left`, a part of the sum of all weights.
std::int32_t Sampler::draw_of_all(double left) const {
  std::size_t block = 0;
  while (block + 1 < sums_.size() && left >= sums_[block]) left -= sums_[block++];
  std::int32_t id = -1;
  for (std::size_t i = block * vocabulary::kBlock; i < weights_.size(); ++i) {
    if (weights_[i] <= 0) continue;
    id = static_cast<std::int32_t>(i);
    if ((left -= weights_[i]) < 0) return id;
  }
  if (id >= 0) return id;  // rounding went past the last: it is that
  for (std::size_t i = weights_.size(); i-- > 0;)
    if (weights_[i] > 0) return static_cast<std::int32_t>(i);
  return 0;
}

void Sampler::tell_logprobs(std::span<const float> logits, Sampled& result) {
  const float top = *vocabulary::copy_finite_scaled(logits, 1, adjusted_, maxima_);  // survive() found them finite
  const double offset = static_cast<double>(top) + std::log(vocabulary::exponentials(logits, top, weights_, sums_));
  const auto logprob = [&](std::int32_t id) {
    return TokenLogprob{id, static_cast<double>(logits[static_cast<std::size_t>(id)]) - offset};
  };
  result.logprob = logprob(result.id).logprob;
  const std::size_t n = std::min(logits.size(), static_cast<std::size_t>(params_.top_logprobs));
  if (n == 0) return;
  const float least = vocabulary::kth_largest(logits, maxima_, n, scratch_);
  vocabulary::for_each_from(logits, maxima_, least,
                            [&](std::size_t i) { result.top.push_back(logprob(static_cast<std::int32_t>(i))); });
  std::ranges::sort(result.top, [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob > b.logprob || (a.logprob == b.logprob && a.id < b.id);
  });
  result.top.resize(n);
}

Result<Sampled> Sampler::sample(std::span<const float> logits, std::uint64_t step) {
  LLORCH_TRY(const double sum, survive(logits));
  Sampled result;
  if (all_) {
    result.id = draw_of_all(uniform(params_.seed, params_.choice, step) * sum);
  } else {
    double left = kept_.size() > 1 ? uniform(params_.seed, params_.choice, step) * sum : 0;
    for (const Candidate& c : kept_) {
      result.id = c.first;
      if ((left -= c.second) < 0) break;
    }
  }
  if (params_.top_logprobs >= 0) tell_logprobs(logits, result);
  if (params_.repetition_penalty != 1 || params_.presence_penalty != 0 || params_.frequency_penalty != 0) {
    Known& k = known(result.id);
    k.seen = true, ++k.times;
  }
  return result;
}

}  // namespace llorch
