// Runs a token sequence through a model from position 0, in chunks, and hands over the logits of every position.
#pragma once

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/limits.h"
#include "engine/loaded_model.h"

namespace llorch {

using LogitsSink = std::function<void(int position, std::span<const float> logits)>;

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
  const auto vocab = static_cast<std::size_t>(model.graph().vocab);
  LLORCH_TRY(const auto cache, model.device().make_cache(model.cache_shape(pages, precision)));
  std::vector<std::int32_t> table(static_cast<std::size_t>(pages));
  std::iota(table.begin(), table.end(), 0);
  chunk = std::clamp(chunk, 1, model.rows_max());
  StepPlan plan;
  for (int done = 0; done < n; done += chunk) {
    plan.clear();
    plan.add_sequence(table).adapter = with.adapter;
    plan.logits_wanted = true;
    for (int i = done; i < std::min(n, done + chunk); ++i) {
      plan.logit_rows.push_back(i - done);
      plan.add_row(tokens[static_cast<std::size_t>(i)], i);
    }
    LLORCH_TRY(const StepResult result, model.forward(plan, *cache, observer));
    LLORCH_OK(result.finite_rows(0, plan.rows.size()));
    for (std::size_t i = 0; i < plan.rows.size(); ++i)
      sink(done + static_cast<int>(i), result.logits.subspan(i * vocab, vocab));
  }
  return {};
}

}  // namespace llorch
