// The end of a step: tokens drawn from logits as sample/sampler.h draws them, the same operations in the same order, so
// that equal logits give the same token; and the numbers that log probabilities are made of.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/step.h"

namespace llorch::cuda {

/// As many as a request may ask for (validate() of sample/sampler.h).
inline constexpr int kTopsMax = 20;

/// A token whose logit is changed.
struct DrawKnown {
  static constexpr std::uint32_t kSeen = 1u << 31;
  std::uint32_t id = 0;       // kSeen added: the repetition penalty is for it
  float bias = 0, minus = 0;  // minus: presence and frequency penalties
  float raw = 0;              // the logit, while it is changed
};

/// How the token of one row is drawn.
struct StepDraw {
  double top_p = 1, min_p = 0;
  double point = 0;  // of [0, 1): counter-based, by the host
  float factor = 1;  // 1 / temperature
  float repetition_penalty = 1;
  std::int32_t greedy = 0;                       // the largest logit, and nothing is drawn
  std::int32_t top_k = 0;                        // 0: off
  std::int32_t given = -1;                       // not below 0: this token, and nothing is drawn
  std::int32_t tops = -1;                        // log probabilities: -1: none, else of the token and so many others
  std::int32_t known = 0, known_count = 0;       // of Step::pages: DrawKnowns
  std::int32_t allowed = 0, allowed_words = -1;  // of Step::pages: a bit for each token; -1 words: all may be drawn
};

/// What a row gives.
struct Drawn {
  enum State : std::int32_t { kDrawn, kNotFinite, kNoneAllowed, kTopNotFinite };
  std::int32_t state = kDrawn, id = -1;
  float logit = 0, top = 0;  // where log probabilities are asked for: of the token, the largest of all,
  double sum = 0;            // and the sum of e^(logit - top)
  std::int32_t tops = 0;     // most likely first
  std::int32_t ids[kTopsMax] = {};
  float logits[kTopsMax] = {};
};

struct DrawCall {
  float* logits = nullptr;          // (rows, vocabulary); changed and restored
  const StepDraw* draws = nullptr;  // of each row
  std::int32_t* tail = nullptr;     // Step::pages
  std::int64_t rows = 0, vocabulary = 0;
  bool logprobs = false;  // whether any row asks for them
  void* room = nullptr;   // draw_bytes(); the rows' Drawn lie at its begin
};
[[nodiscard]] std::size_t draw_bytes(std::int64_t rows, std::int64_t vocabulary);
/// Launches only. A row's result does not depend on the others.
void draw(StreamHandle stream, const DrawCall& call);

}  // namespace llorch::cuda
