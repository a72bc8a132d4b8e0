// What an engine takes of its model's device: the cache, and room for the largest step.
#include <algorithm>

#include "base/limits.h"
#include "engine/engine.h"
#include "model/memory.h"

namespace llorch {
namespace {

/// The largest step of an engine.
StepSizes step_sizes(const Model& model, const CacheShape& shape, int sequences) {
  const Graph& graph = model.graph();
  StepSizes sizes;
  sizes.rows = sizes.state_rows = model.rows_max(), sizes.sequences = sequences, sizes.positions = graph.context;
  sizes.logit_rows =
      graph.head.weight.there() ? std::min(model.logit_rows_max(), logit_rows(graph, sizes.rows, sequences)) : 0;
  const std::int64_t pages = graph.context / limits::kKvPagePositions + 2,
                     drawn = std::max(sequences, limits::kDraftsMax);
  const std::int64_t saves = sizes.rows / limits::kKvPagePositions + sequences;
  constexpr std::int64_t kKnownWords = 4, kSaveWords = 2, kBitsOfWord = 32;
  sizes.plan_words = sequences * pages * static_cast<std::int64_t>(shape.windows.size()) + kSaveWords * saves;
  // A sequence with penalties draws once in a step; one with biases alone for each of its guesses.
  sizes.plan_words += kKnownWords * (std::int64_t{sequences} * std::min(graph.vocab, graph.context) +
                                     drawn * std::min<std::int64_t>(SamplingParams::kBiasesMax, graph.vocab));
  sizes.plan_words += drawn * (graph.vocab / kBitsOfWord + 1);
  return sizes;
}

}  // namespace

EngineOptions Engine::resolved(const Model& model, EngineOptions options) {
  options.prefill_chunk = std::clamp(options.prefill_chunk, 1, model.rows_max());
  options.max_batch = std::clamp(options.max_batch, 1, model.rows_max());
  if (options.pages <= 0)
    options.pages = static_cast<int>(default_pages(model.graph(), model.graph().context, options.max_batch));
  return options;
}

Result<std::unique_ptr<Cache>> Engine::take_memory(Model& model, EngineOptions options) {
  options = resolved(model, std::move(options));
  CacheShape shape =
      model.cache_shape(options.pages, options.kv, options.max_batch, kCheckpointsEach * options.max_batch);
  for (std::size_t g = 1; g < shape.windows.size(); ++g)
    shape.pages[g] =
        static_cast<int>(window_pages(shape.windows[g], options.pages, options.max_batch, model.rows_max()));
  LLORCH_TRY(auto cache, model.device().make_cache(shape));
  LLORCH_OK(model.rehearse(step_sizes(model, shape, options.max_batch), *cache));
  return cache;
}

}  // namespace llorch
