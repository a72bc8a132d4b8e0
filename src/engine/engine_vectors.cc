// The engine's requests for vectors and scores: states that become numbers, and no text.
#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/sequence.h"

namespace llorch {

/// The token type of a position.
std::int32_t Engine::type_of(const Sequence& s, int position) const {
  const int second = s.request.second_text;
  return second > 0 && position >= second && model_.graph().token_types > 1 ? 1 : 0;
}

void Engine::pool(Sequence& s, std::span<const float> states, int tokens) {
  const std::size_t dim = states.size() / static_cast<std::size_t>(tokens);
  s.pooled.resize(dim);
  for (int i = 0; i < tokens; ++i) {
    const int position = s.computed - tokens + i;
    const bool wanted = *s.request.embedding == Pooling::kMean ||
                        position == (*s.request.embedding == Pooling::kFirst ? 0 : s.prompt_size() - 1);
    if (!wanted) continue;
    for (std::size_t d = 0; d < dim; ++d)
      s.pooled[d] += static_cast<double>(states[static_cast<std::size_t>(i) * dim + d]);
  }
  if (s.computed < s.prompt_size()) return;
  const std::optional<Classifier>& classifier = model_.graph().classifier;
  if (classifier && *s.request.embedding == Pooling::kMean)
    for (double& v : s.pooled) v /= s.prompt_size();
  double squares = 0;
  for (const double v : s.pooled) squares += v * v;
  EmbeddingEvent event;
  if (classifier)
    event.values = classifier->scores(s.pooled);
  else
    for (const double v : s.pooled)
      event.values.push_back(static_cast<float>(squares > 0 ? v / std::sqrt(squares) : 0));
  if (!std::isfinite(squares) || !std::ranges::all_of(event.values, [](float v) { return std::isfinite(v); }))
    return finish(s, Error{ErrorCode::kInferenceFailed, "the states of the prompt, or its scores, are not finite"});
  if (s.request.sink) s.request.sink(event);
  finish(s, EndEvent{StopReason::kEos, std::nullopt, s.prompt_size(), 0, 0, 0, 0, ms_since(s.started), 0, {}});
}

}  // namespace llorch
