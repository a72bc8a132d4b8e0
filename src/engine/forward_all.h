// Runs a token sequence through a model from position 0, in chunks, and hands over the logits of every position; of a
// model that gives embeddings its normalised last states, (dim), in one chunk.
#pragma once

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/limits.h"
#include "engine/loaded_model.h"

namespace llorch {

using LogitsSink = std::function<void(int position, std::span<const float> logits)>;

/// Else it gives embeddings.
[[nodiscard]] inline bool gives_logits(const Model& model) { return model.graph().head.weight.there(); }
/// How many values forward_all() hands over for a position: the vocabulary's, or a state's.
[[nodiscard]] inline int row_width(const Model& model) {
  return gives_logits(model) ? model.graph().vocab : model.graph().dim;
}

/// A model with one of its adapters, by its number; or alone.
struct ModelWithAdapter {
  Model& model;
  int adapter = -1;
  ModelWithAdapter(Model& alone) : model(alone) {}
  ModelWithAdapter(Model& with, int number) : model(with), adapter(number) {}
};

[[nodiscard]] inline Status forward_all(ModelWithAdapter with, std::span<const TokenId> tokens, int chunk,
                                        KvPrecision precision, const LogitsSink& sink,
                                        const Observer* observer = nullptr) {
  Model& model = with.model;
  constexpr int kPage = limits::kKvPagePositions;
  const auto n = static_cast<int>(tokens.size());
  const int pages = (n + kPage - 1) / kPage;
  const auto each = static_cast<std::size_t>(row_width(model));
  LLORCH_TRY(const auto cache, model.device().make_cache(model.cache_shape(pages, precision)));
  std::vector<std::int32_t> table(static_cast<std::size_t>(pages));
  std::iota(table.begin(), table.end(), 0);
  const bool states = !gives_logits(model);
  if (states && n > model.rows_max())
    return fail(ErrorCode::kContextLengthExceeded, "{} tokens, and at most {} are read at once", n, model.rows_max());
  chunk = states ? n : std::clamp(chunk, 1, model.rows_max());
  StepPlan plan;
  for (int done = 0; done < n; done += chunk) {
    plan.clear();
    plan.add_sequence(table).adapter = with.adapter;
    plan.logits_wanted = !states;
    for (int i = done; i < std::min(n, done + chunk); ++i) {
      (states ? plan.state_rows : plan.logit_rows).push_back(i - done);
      plan.add_row(tokens[static_cast<std::size_t>(i)], i);
    }
    LLORCH_TRY(const StepResult result, model.forward(plan, *cache, observer));
    LLORCH_OK(result.finite_rows(0, plan.rows.size()));
    const auto& values = states ? result.states : result.logits;
    for (std::size_t i = 0; i < plan.rows.size(); ++i) sink(done + static_cast<int>(i), values.subspan(i * each, each));
  }
  return {};
}

}  // namespace llorch
