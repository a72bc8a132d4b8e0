#include "worker/default_sampling.h"

#include <algorithm>
#include <cmath>

namespace llorch::worker {
namespace {

/// A number of a model's file, where it has one in this range. Files have float32: 0.6 is written as 0.60000002.
std::optional<double> stated(const Metadata& metadata, std::string_view key, double low, double high) {
  constexpr double kDigits = 1e6;
  const auto number = metadata.has(key) ? metadata.number(key) : Result<double>(-1.0);
  if (!number || !(*number >= low && *number <= high)) return std::nullopt;
  return std::round(*number * kDigits) / kDigits;
}

SamplingParams built_in() {
  SamplingParams s;
  s.temperature = 0.8, s.top_p = 0.95, s.min_p = 0.05, s.top_k = 40;
  return s;
}

std::optional<SamplingParams> of_model(const Metadata& metadata) {
  const auto temperature = stated(metadata, "general.sampling.temp", 0, 2);
  const auto top_p = stated(metadata, "general.sampling.top_p", 0, 1);
  const auto min_p = stated(metadata, "general.sampling.min_p", 0, 1);
  const auto top_k = stated(metadata, "general.sampling.top_k", 0, 1 << 21);
  const auto repetition = stated(metadata, "general.sampling.penalty_repeat", 1e-9, 2);
  if (!temperature && !top_p && !min_p && !top_k && !repetition) return std::nullopt;
  constexpr int kTopKUnstated = 50;
  SamplingParams s;
  s.temperature = temperature.value_or(s.temperature), s.top_p = top_p.value_or(s.top_p);
  s.min_p = min_p.value_or(s.min_p), s.top_k = top_k ? static_cast<int>(*top_k) : kTopKUnstated;
  s.repetition_penalty = repetition.value_or(s.repetition_penalty);
  return s;
}

}  // namespace

std::string_view name(SamplingSource source) {
  return source == SamplingSource::kSettings ? "settings" : source == SamplingSource::kModel ? "model" : "default";
}

DefaultSampling default_sampling(const Metadata& metadata, const SamplingSettings& settings, int vocab) {
  const auto own = of_model(metadata);
  DefaultSampling out{own ? *own : built_in(), own ? SamplingSource::kModel : SamplingSource::kBuiltIn};
  SamplingParams& s = out.params;
  s.temperature = settings.temperature.value_or(s.temperature), s.top_p = settings.top_p.value_or(s.top_p);
  s.min_p = settings.min_p.value_or(s.min_p), s.top_k = settings.top_k.value_or(s.top_k);
  s.repetition_penalty = settings.repetition_penalty.value_or(s.repetition_penalty);
  s.top_k = std::min(s.top_k, vocab);
  if (settings.any()) out.source = SamplingSource::kSettings;
  return out;
}

}  // namespace llorch::worker
