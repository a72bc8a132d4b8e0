#include "sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.h"
#include "kernel/vocabulary.h"

namespace llorch {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

using Candidate = std::pair<std::int32_t, double>;

void keep_min_p(std::vector<Candidate>& list, double p) {
  if (p <= 0 || list.empty()) return;
  std::erase_if(list, [least = p * list.front().second](const Candidate& c) { return c.second < least; });
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

namespace {

/// The stages for one row.
class Draw {
 public:
  Draw(std::span<const float> logits, const SamplingRow& row, SamplingScratch& scratch)
      : logits_(logits), row_(row), p_(*row.params), s_(scratch) {}
  [[nodiscard]] Result<Sampled> sample();
  [[nodiscard]] Result<std::vector<Candidate>> distribution();

 private:
  /// Biases, penalties and the mask, times `factor`: adjusted and the maxima of its blocks. The largest of all.
  [[nodiscard]] Result<float> adjust(float factor);
  void keep_top_k(float top);
  void keep_likely(double sum);
  /// The most likely first, of equals the lower id: so they lie in [0, 1), and so their sums run. Of those behind
  /// `from`, which are in order, so many more; returns how many are in order then.
  std::size_t order_kept(std::size_t from, std::size_t more);
  /// The smallest set whose probability reaches top_p, the crossing token included, in order.
  void keep_top_p();
  /// What can be drawn: weights where all_, else kept. Returns the sum of those weights.
  [[nodiscard]] Result<double> survive();
  [[nodiscard]] std::int32_t draw_of_all(double left) const;
  void tell_logprobs(Sampled& result);

  std::span<const float> logits_;
  const SamplingRow& row_;
  const SamplingParams& p_;
  SamplingScratch& s_;
  bool all_ = false;
};

Result<float> Draw::adjust(float factor) {
  const auto top = vocabulary::copy_finite_scaled(logits_, factor, s_.adjusted, s_.maxima);
  if (!top) return draw_error(DrawProblem::kNotFinite);
  if (row_.known.empty() && row_.allowed.empty()) return *top;
  const auto penalty = static_cast<float>(p_.repetition_penalty);
  for (const KnownToken& k : row_.known) {
    float v = logits_[static_cast<std::size_t>(k.id)] + k.bias;
    if (k.seen && penalty != 1) v = v > 0 ? v / penalty : v * penalty;
    if (k.times > 0) v -= static_cast<float>(p_.presence_penalty + p_.frequency_penalty * k.times);
    s_.adjusted[static_cast<std::size_t>(k.id)] = v * factor;
  }
  for (const KnownToken& k : row_.known)
    vocabulary::renew_block(s_.adjusted, static_cast<std::size_t>(k.id), s_.maxima);
  if (!row_.allowed.empty()) vocabulary::forbid_others(row_.allowed, s_.adjusted, s_.maxima);
  return *std::ranges::max_element(s_.maxima);
}

/// Few tokens survive top_k: their softmax alone.
void Draw::keep_top_k(float top) {
  const auto k = static_cast<std::size_t>(p_.top_k);
  const float least = vocabulary::kth_largest(s_.adjusted, s_.maxima, k, s_.order);
  s_.kept.clear();
  vocabulary::for_each_from(s_.adjusted, s_.maxima, least, [&](std::size_t i) {
    if (s_.adjusted[i] != kNever) s_.kept.emplace_back(static_cast<std::int32_t>(i), 0.0);
  });
  order_kept(0, s_.kept.size());
  s_.order.clear();
  for (const Candidate& c : s_.kept) s_.order.push_back(s_.adjusted[static_cast<std::size_t>(c.first)]);
  (void)vocabulary::exponentials(s_.order, top, s_.weights, s_.sums);
  double sum = 0;
  for (const double weight : s_.weights) sum += weight;
  for (std::size_t i = 0; i < s_.kept.size(); ++i) s_.kept[i].second = s_.weights[i] / sum;
}

std::size_t Draw::order_kept(std::size_t from, std::size_t more) {
  const auto likelier = [this](const Candidate& a, const Candidate& b) {
    const float x = s_.adjusted[static_cast<std::size_t>(a.first)], y = s_.adjusted[static_cast<std::size_t>(b.first)];
    return x > y || (x == y && a.first < b.first);
  };
  const std::size_t to = from + std::min(more, s_.kept.size() - from);
  const auto at = [this](std::size_t i) { return s_.kept.begin() + static_cast<std::ptrdiff_t>(i); };
  if (to < s_.kept.size()) std::nth_element(at(from), at(to), s_.kept.end(), likelier);
  std::sort(at(from), at(to), likelier);
  return to;
}

void Draw::keep_top_p() {
  if (p_.top_p >= 1) {
    order_kept(0, s_.kept.size());
    return;
  }
  constexpr std::size_t kFirst = 256;  // as many as are mostly enough, then three times as many as there are
  std::size_t count = 0, ordered = 0;
  for (double sum = 0; count < s_.kept.size() && (count == 0 || sum < p_.top_p); sum += s_.kept[count++].second)
    if (count == ordered) ordered = order_kept(ordered, std::max(kFirst, 3 * ordered));
  s_.kept.resize(count);
}

/// Tokens that top_p or min_p may keep: all below a share of (1 - top_p) / vocabulary are less than 1 - top_p together,
/// and so never needed.
void Draw::keep_likely(double sum) {
  const double share = p_.top_p < 1 ? (1 - p_.top_p) / static_cast<double>(s_.adjusted.size()) * 0.999 : 0;
  const double least = std::max(share, p_.min_p / sum * 0.999) * sum;  // the likeliest has 1 / sum
  s_.kept.clear();
  for (std::size_t b = 0; b < s_.sums.size(); ++b) {
    if (s_.sums[b] < least) continue;
    for (std::size_t i = b * vocabulary::kBlock; i < std::min(s_.weights.size(), (b + 1) * vocabulary::kBlock); ++i)
      if (s_.weights[i] >= least && s_.weights[i] > 0)
        s_.kept.emplace_back(static_cast<std::int32_t>(i), s_.weights[i] / sum);
  }
}

Result<double> Draw::survive() {
  const bool greedy = p_.temperature < SamplingParams::kGreedyBelow;
  LLORCH_TRY(const float top, adjust(greedy ? 1 : static_cast<float>(1 / p_.temperature)));
  if (top == kNever) return draw_error(DrawProblem::kNoneAllowed);
  if (!std::isfinite(top)) return draw_error(DrawProblem::kTopNotFinite);
  all_ = false;
  if (greedy) {
    const auto best = std::ranges::find(s_.adjusted, top);  // the first of equals
    s_.kept.assign(1, {static_cast<std::int32_t>(best - s_.adjusted.begin()), 1.0});
    return 1;
  }
  if (p_.top_k > 0 && static_cast<std::size_t>(p_.top_k) < s_.adjusted.size()) {
    keep_top_k(top);
  } else {
    const double sum = vocabulary::exponentials(s_.adjusted, top, s_.weights, s_.sums);
    all_ = p_.top_p >= 1 && p_.min_p <= 0;
    if (all_) return sum;
    keep_likely(sum);
  }
  keep_top_p();
  keep_min_p(s_.kept, p_.min_p);
  double sum = 0;
  for (const Candidate& c : s_.kept) sum += c.second;
  return sum;
}

Result<std::vector<Candidate>> Draw::distribution() {
  LLORCH_TRY(const double sum, survive());
  std::vector<Candidate> out;
  if (all_) {
    for (std::size_t i = 0; i < s_.weights.size(); ++i)
      if (s_.weights[i] > 0) out.emplace_back(static_cast<std::int32_t>(i), s_.weights[i] / sum);
  } else {
    for (const Candidate& c : s_.kept) out.emplace_back(c.first, c.second / sum);
  }
  return out;
}

/// The first token whose share and all before it exceed `left`, a part of the sum of all weights.
std::int32_t Draw::draw_of_all(double left) const {
  std::size_t block = 0;
  for (double sum = 0; block + vocabulary::kGroup < s_.sums.size(); block += vocabulary::kGroup, left -= sum)
    if (left < (sum = vocabulary::group_sum(s_.sums, block))) break;
  const std::size_t last = std::min(s_.sums.size(), block + vocabulary::kGroup) - 1;
  while (block < last && left >= s_.sums[block]) left -= s_.sums[block++];
  std::int32_t id = -1;
  for (std::size_t i = block * vocabulary::kBlock; i < s_.weights.size(); ++i) {
    if (s_.weights[i] <= 0) continue;
    id = static_cast<std::int32_t>(i);
    if ((left -= s_.weights[i]) < 0) return id;
  }
  if (id >= 0) return id;  // rounding went past the last: it is that
  for (std::size_t i = s_.weights.size(); i-- > 0;)
    if (s_.weights[i] > 0) return static_cast<std::int32_t>(i);
  return 0;
}

void Draw::tell_logprobs(Sampled& result) {
  (void)vocabulary::copy_finite_scaled(logits_, 1, s_.adjusted, s_.maxima);  // survive() found them finite
  if (!row_.allowed.empty()) vocabulary::forbid_others(row_.allowed, s_.adjusted, s_.maxima);
  const float top = *std::ranges::max_element(s_.maxima);
  const double offset =
      static_cast<double>(top) + std::log(vocabulary::exponentials(s_.adjusted, top, s_.weights, s_.sums));
  const auto logprob = [&](std::int32_t id) {
    return TokenLogprob{id, static_cast<double>(logits_[static_cast<std::size_t>(id)]) - offset};
  };
  result.logprob = logprob(result.id).logprob;
  const std::size_t n = std::min(logits_.size(), static_cast<std::size_t>(std::max(0, p_.top_logprobs)));
  if (n == 0) return;
  const float least = vocabulary::kth_largest(s_.adjusted, s_.maxima, n, s_.order);
  vocabulary::for_each_from(s_.adjusted, s_.maxima, least, [&](std::size_t i) {
    if (s_.adjusted[i] != kNever) result.top.push_back(logprob(static_cast<std::int32_t>(i)));
  });
  std::ranges::sort(result.top, [this](const TokenLogprob& a, const TokenLogprob& b) {
    const float x = logits_[static_cast<std::size_t>(a.id)], y = logits_[static_cast<std::size_t>(b.id)];
    return x > y || (x == y && a.id < b.id);
  });
  if (result.top.size() > n) result.top.resize(n);
}

Result<Sampled> Draw::sample() {
  if (row_.given >= 0) {
    LLORCH_OK(adjust(1));  // finds what is not finite
    Sampled result{.id = row_.given, .logprob = 0, .top = {}};
    tell_logprobs(result);
    return result;
  }
  LLORCH_TRY(const double sum, survive());
  Sampled result;
  if (all_) {
    result.id = draw_of_all(uniform(p_.seed, p_.choice, row_.step) * sum);
  } else {
    double left = s_.kept.size() > 1 ? uniform(p_.seed, p_.choice, row_.step) * sum : 0;
    for (const Candidate& c : s_.kept) {
      result.id = c.first;
      if ((left -= c.second) < 0) break;
    }
  }
  if (wants_logprobs(row_)) tell_logprobs(result);
  return result;
}

}  // namespace

std::unexpected<Error> draw_error(DrawProblem problem) {
  switch (problem) {
    case DrawProblem::kNotFinite: break;
    case DrawProblem::kNoneAllowed:
      return fail(ErrorCode::kInferenceFailed, "the request's grammar allows no token of the vocabulary");
    case DrawProblem::kTopNotFinite: return fail(ErrorCode::kInferenceFailed, "the largest logit is not finite");
  }
  return fail(ErrorCode::kInferenceFailed, "the model produced a logit that is not finite");
}

Result<Sampled> sample_row(std::span<const float> logits, const SamplingRow& row, SamplingScratch& scratch) {
  return Draw(logits, row, scratch).sample();
}

Sampler::Sampler(SamplingParams params, std::span<const std::int32_t> prompt) : params_(std::move(params)) {
  for (const auto& [id, bias] : params_.logit_bias) known(id).bias += static_cast<float>(bias);
  if (params_.repetition_penalty != 1)
    for (const std::int32_t id : prompt) known(id).seen = true;
}

KnownToken& Sampler::known(std::int32_t id) {
  const auto [at, fresh] = places_.emplace(id, known_.size());
  if (fresh) known_.push_back({.id = id});
  return known_[at->second];
}

void Sampler::accept(std::int32_t id) {
  if (params_.repetition_penalty == 1 && params_.presence_penalty == 0 && params_.frequency_penalty == 0) return;
  KnownToken& k = known(id);
  k.seen = true, ++k.times;
}

Result<Sampled> Sampler::sample(std::span<const float> logits, std::uint64_t step) {
  LLORCH_TRY(Sampled result, sample_row(logits, row(step), scratch_));
  accept(result.id);
  return result;
}

Result<std::vector<Candidate>> Sampler::distribution(std::span<const float> logits) {
  const SamplingRow at = row(0);
  return Draw(logits, at, scratch_).distribution();
}

}  // namespace llorch
