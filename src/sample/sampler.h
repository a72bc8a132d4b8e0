// From logits to a token, in the order of Hugging Face transformers (E-34):
//   logit bias -> repetition, presence, frequency penalties -> mask -> temperature -> top-k -> softmax -> top-p ->
//   min-p -> draw.
//
// The draw is counter-based: it depends on (seed, choice, step) alone. Temperature below 1e-6 takes the largest logit
// after penalties and mask, the lowest id of equals, and draws nothing. The vocabulary is never sorted. Threads: one
// sampler per sequence. Errors: kInferenceFailed when logits are not finite or a distribution does not sum to 1 within
// 1e-6.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"

namespace llorch {

struct SamplingParams {
  double temperature = 1;
  int top_k = 0;                  // 0: off
  double top_p = 1;               // 1: off
  double min_p = 0;               // 0: off
  double repetition_penalty = 1;  // once per distinct token of prompt and output
  double presence_penalty = 0;    // per token already generated
  double frequency_penalty = 0;   // per time it was generated
  std::vector<std::pair<std::int32_t, double>> logit_bias;
  std::vector<bool> mask;  // allowed tokens; empty: all
  std::uint64_t seed = 0;
  std::uint64_t choice = 0;
  int top_logprobs = -1;  // -1: none; n: the chosen token's and the n most likely
};

/// Every violation of the ranges that requests may use, or success.
[[nodiscard]] Status validate(const SamplingParams& params, int vocab);

struct TokenLogprob {
  std::int32_t id = -1;
  double logprob = 0;  // natural logarithm, of the model's own distribution (before any of the stages above)
};

struct Sampled {
  std::int32_t id = -1;
  double logprob = 0;
  std::vector<TokenLogprob> top;  // most likely first
};

class Sampler {
 public:
  Sampler(SamplingParams params, std::span<const std::int32_t> prompt);

  /// `step`: how many tokens this sequence has generated so far.
  [[nodiscard]] Result<Sampled> sample(std::span<const float> logits, std::uint64_t step);

  /// The distribution that sample() draws from: (id, probability) of every token that survives. For tests and for
  /// logprobs of stages.
  [[nodiscard]] Result<std::vector<std::pair<std::int32_t, double>>> distribution(std::span<const float> logits);

 private:
  using Candidate = std::pair<std::int32_t, double>;
  /// A token whose logit is changed: one with a bias, or, where penalties are asked for, of prompt or output.
  struct Known {
    std::int32_t id;
    float bias = 0;
    bool seen = false;
    int times = 0;  // generated
  };
  Known& known(std::int32_t id);
  /// Biases, penalties and the mask, times `factor`: adjusted_ and the maxima of its blocks. The largest of all.
  [[nodiscard]] Result<float> adjust(std::span<const float> logits, float factor);
  void keep_top_k(float top);
  void keep_likely(double sum);
  /// What can be drawn: weights_ where all_, else kept_. Returns the sum of those weights.
  [[nodiscard]] Result<double> survive(std::span<const float> logits);
  [[nodiscard]] std::int32_t draw_of_all(double left) const;
  void tell_logprobs(std::span<const float> logits, Sampled& result);

  SamplingParams params_;
  std::vector<Known> known_;
  std::unordered_map<std::int32_t, std::size_t> places_;  // of tokens in known_
  // Reused from token to token: as long as the vocabulary, or as its blocks, or as what survives.
  std::vector<float> adjusted_, maxima_, scratch_;
  std::vector<double> weights_, sums_;
  std::vector<Candidate> kept_;
  bool all_ = false;
};

/// Probabilities of finite logits: maximum subtracted, summed in double. Errors: kInferenceFailed (E-36).
[[nodiscard]] Result<std::vector<double>> softmax(std::span<const float> logits);

}  // namespace llorch
