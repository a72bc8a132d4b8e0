#include "sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.h"

namespace llorch {
namespace {

constexpr double kGreedyBelow = 1e-6;
constexpr float kNever = -std::numeric_limits<float>::infinity();

using Candidate = std::pair<std::int32_t, double>;

/// The most likely first, of equals the lower id; as a heap order.
bool less_likely(const Candidate& a, const Candidate& b) {
  return a.second < b.second || (a.second == b.second && a.first > b.first);
}

/// Keeps every candidate whose logit is not below the k-th largest.
void keep_top_k(std::vector<std::pair<std::int32_t, float>>& list, int k) {
  if (k <= 0 || static_cast<std::size_t>(k) >= list.size()) return;
  std::vector<float> values;
  for (const auto& c : list) values.push_back(c.second);
  std::nth_element(values.begin(), values.begin() + (k - 1), values.end(), std::greater<>());
  const float least = values[static_cast<std::size_t>(k - 1)];
  std::erase_if(list, [&](const auto& c) { return c.second < least; });
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
  if (params_.repetition_penalty != 1)
    for (const std::int32_t id : prompt) seen_[id] = true;
}

std::vector<float> Sampler::adjust(std::span<const float> logits) const {
  std::vector<float> out(logits.begin(), logits.end());
  const auto at = [&](std::int32_t id) -> float& { return out[static_cast<std::size_t>(id)]; };
  for (const auto& [id, bias] : params_.logit_bias) at(id) += static_cast<float>(bias);
  if (params_.repetition_penalty != 1) {
    const auto penalty = static_cast<float>(params_.repetition_penalty);
    for (const auto& [id, yes] : seen_) at(id) = at(id) > 0 ? at(id) / penalty : at(id) * penalty;
  }
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0)
    for (const auto& [id, times] : generated_)
      at(id) -= static_cast<float>(params_.presence_penalty + params_.frequency_penalty * times);
  for (std::size_t i = 0; i < params_.mask.size(); ++i)
    if (!params_.mask[i]) out[i] = kNever;
  return out;
}

Result<std::vector<Candidate>> Sampler::survivors(std::span<const float> adjusted) const {
  std::vector<std::pair<std::int32_t, float>> list;
  list.reserve(adjusted.size());
  const auto inverse = static_cast<float>(1 / params_.temperature);
  for (std::size_t i = 0; i < adjusted.size(); ++i)
    if (adjusted[i] != kNever) list.emplace_back(static_cast<std::int32_t>(i), adjusted[i] * inverse);
  keep_top_k(list, params_.top_k);
  std::vector<float> values;
  for (const auto& c : list) values.push_back(c.second);
  LLORCH_TRY(const std::vector<double> p, softmax(values));
  std::vector<Candidate> kept;
  kept.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) kept.emplace_back(list[i].first, p[i]);
  keep_top_p(kept, params_.top_p);
  keep_min_p(kept, params_.min_p);
  double sum = 0;
  for (const Candidate& c : kept) sum += c.second;
  for (Candidate& c : kept) c.second /= sum;
  return kept;
}

Result<std::vector<Candidate>> Sampler::distribution(std::span<const float> logits) {
  for (const float x : logits)
    if (!std::isfinite(x)) return fail(ErrorCode::kInferenceFailed, "the model produced a logit that is not finite");
  const std::vector<float> adjusted = adjust(logits);
  if (params_.temperature >= kGreedyBelow) return survivors(adjusted);
  const auto best = std::ranges::max_element(adjusted);  // the first of equals
  if (*best == kNever) return fail(ErrorCode::kInferenceFailed, "the mask allows no token");
  return std::vector<Candidate>{{static_cast<std::int32_t>(best - adjusted.begin()), 1.0}};
}

Result<Sampled> Sampler::sample(std::span<const float> logits, std::uint64_t step) {
  LLORCH_TRY(const std::vector<Candidate> kept, distribution(logits));
  Sampled result{kept.back().first, 0, {}};
  if (kept.size() > 1) {
    double left = uniform(params_.seed, params_.choice, step);
    for (const Candidate& c : kept) {
      result.id = c.first;
      if ((left -= c.second) < 0) break;
    }
  }
  if (params_.top_logprobs >= 0) {
    const double top = *std::ranges::max_element(logits);
    double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x) - top);
    const double offset = top + std::log(sum);
    result.logprob = static_cast<double>(logits[static_cast<std::size_t>(result.id)]) - offset;
    std::vector<TokenLogprob> all;
    for (std::size_t i = 0; i < logits.size(); ++i)
      all.push_back({static_cast<std::int32_t>(i), static_cast<double>(logits[i]) - offset});
    const std::size_t n = std::min(all.size(), static_cast<std::size_t>(params_.top_logprobs));
    std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n), all.end(),
                      [](const TokenLogprob& a, const TokenLogprob& b) {
                        return a.logprob > b.logprob || (a.logprob == b.logprob && a.id < b.id);
                      });
    result.top.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n));
  }
  ++generated_[result.id];
  if (params_.repetition_penalty != 1) seen_[result.id] = true;
  return result;
}

}  // namespace llorch
