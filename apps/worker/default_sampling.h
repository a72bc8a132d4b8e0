// What a request that names no sampling is sampled with: settings of whoever started the worker, else what the model's
// files say, else what suits most chat models.
//
// A model's files state it as `general.sampling.*` (GGUF), or in generation_config.json (arch/hf_sampling.h). A model
// that states some of the values states the distribution: the others are those of generation_config.json's library
// (temperature 1, top-p 1, top-k 50, min-p off). Threads: any.
#pragma once

#include <optional>
#include <string_view>

#include "format/metadata.h"
#include "sample/sampler.h"

namespace llorch::worker {

/// What was asked for when the worker was started.
struct SamplingSettings {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;
  [[nodiscard]] bool any() const { return temperature || top_p || min_p || repetition_penalty || top_k; }
};

enum class SamplingSource { kBuiltIn, kModel, kSettings };  // settings: at least one of the values
[[nodiscard]] std::string_view name(SamplingSource source);

struct DefaultSampling {
  SamplingParams params;
  SamplingSource source = SamplingSource::kBuiltIn;
};

/// Values of a file that no request could name are not taken. `vocab`: the largest top-k.
[[nodiscard]] DefaultSampling default_sampling(const Metadata& metadata, const SamplingSettings& settings, int vocab);

}  // namespace llorch::worker
