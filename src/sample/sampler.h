// From logits to a token, in the order of Hugging Face transformers (E-34):
//   logit bias -> repetition, presence, frequency penalties -> allowed tokens (of a grammar) -> temperature -> top-k ->
//   softmax -> top-p -> min-p -> draw.
//
// The draw is counter-based: it depends on (seed, choice, step) alone. Temperature below 1e-6 takes the largest logit
// after those stages, the lowest id of equals, and draws nothing. The vocabulary is never sorted. Threads: one
// sampler per sequence; sample_row() is pure. Errors: kInferenceFailed when logits are not finite or a distribution
// does not sum to 1 within 1e-6.
#pragma once

#include <cstdint>
#include <span>
#include <string>
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
  static constexpr int kBiasesMax = 1024;
  std::vector<std::pair<std::int32_t, double>> logit_bias;
  std::uint64_t seed = 0;
  std::uint64_t choice = 0;
  int top_logprobs = -1;                        // -1: none; n: the chosen token's and the n most likely
  static constexpr double kGreedyBelow = 1e-6;  // of `temperature`
};

/// Every violation of the ranges that requests may use, or success.
[[nodiscard]] Status validate(const SamplingParams& params, int vocab);

struct TokenLogprob {
  std::int32_t id = -1;
  /// Natural logarithm, of the model's own distribution (before any of the stages above); where a grammar allows some
  /// tokens alone, of the distribution over these.
  double logprob = 0;
};

struct Sampled {
  std::int32_t id = -1;
  double logprob = 0;
  std::vector<TokenLogprob> top;  // most likely first
  std::string logits_sha256{};    // of the model's float32 logits that it was drawn from, where they were asked for
};

/// A token whose logit is changed: one with a bias, or, where penalties are asked for, of prompt or output.
struct KnownToken {
  std::int32_t id;
  float bias = 0;
  bool seen = false;
  int times = 0;  // generated
};

/// All that drawing one token depends on beside the logits: numbers, so that a device can take it.
struct SamplingRow {
  const SamplingParams* params = nullptr;  // their logit_bias is in `known`
  std::span<const KnownToken> known;
  std::uint64_t step = 0;  // tokens that the sequence has generated so far
  /// Bit i % 32 of word i / 32 for each token i that may be drawn, none for those behind the last word; empty: all may.
  std::span<const std::uint32_t> allowed;
  /// Not below 0: this token follows anyway, as in a prompt. Nothing is drawn; its log probabilities are told.
  std::int32_t given = -1;
};

/// Whether a row's log probabilities are told.
[[nodiscard]] inline bool wants_logprobs(const SamplingRow& row) {
  return row.given >= 0 || row.params->top_logprobs >= 0;
}

/// Why no token can be drawn; as a device finds it.
enum class DrawProblem { kNotFinite, kNoneAllowed, kTopNotFinite };
[[nodiscard]] std::unexpected<Error> draw_error(DrawProblem problem);

/// Room for sample_row(), kept from token to token: as long as the vocabulary, or as its blocks, or as what survives.
struct SamplingScratch {
  std::vector<float> adjusted, maxima, order;
  std::vector<double> weights, sums;
  std::vector<std::pair<std::int32_t, double>> kept;
};
[[nodiscard]] Result<Sampled> sample_row(std::span<const float> logits, const SamplingRow& row,
                                         SamplingScratch& scratch);

/// What the tokens of one sequence mean for the next: parameters and counts.
class Sampler {
 public:
  Sampler(SamplingParams params, std::span<const std::int32_t> prompt);

  /// Of the token that follows `step` generated ones; valid until accept().
  [[nodiscard]] SamplingRow row(std::uint64_t step) const { return {&params_, known_, step, allowed_}; }
  /// Of a token of the prompt, for its log probabilities.
  [[nodiscard]] SamplingRow row_of_given(std::int32_t id) const {
    SamplingRow row;
    row.params = &params_, row.given = id;
    return row;
  }
  /// From now on these tokens alone may be drawn (SamplingRow::allowed, which is not copied).
  void allow(std::span<const std::uint32_t> bits) { allowed_ = bits; }
  /// The sequence goes on with this token.
  void accept(std::int32_t id);
  /// Both: draws the token and goes on with it.
  [[nodiscard]] Result<Sampled> sample(std::span<const float> logits, std::uint64_t step);

  /// The distribution that sample() draws from: (id, probability) of every token that survives. For tests and for
  /// logprobs of stages.
  [[nodiscard]] Result<std::vector<std::pair<std::int32_t, double>>> distribution(std::span<const float> logits);

 private:
  KnownToken& known(std::int32_t id);

  SamplingParams params_;
  std::span<const std::uint32_t> allowed_;
  std::vector<KnownToken> known_;
  std::unordered_map<std::int32_t, std::size_t> places_;  // of tokens in known_
  SamplingScratch scratch_;
};

/// Probabilities of finite logits: maximum subtracted, summed in double. Errors: kInferenceFailed (E-36).
[[nodiscard]] Result<std::vector<double>> softmax(std::span<const float> logits);

}  // namespace llorch
