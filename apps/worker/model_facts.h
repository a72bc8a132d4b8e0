// Facts about the model that is served, measured when it was loaded.
#pragma once

#include <string>

#include "engine/engine.h"
#include "engine/loaded_model.h"
#include "worker/prompt_renderer.h"
#include "worker/reasoning.h"

namespace llorch::worker {

struct ModelFacts {
  std::string id, quant_kind, tokenizer_kind, hash;  // hash: SHA-256 of the file, empty until known
  int vocab = 0, context = 0;
  PromptRenderer renderer;
  Reasoning::Style reasoning = Reasoning::Style::kNone;
  Pooling pooling = Pooling::kMean;
  std::int64_t created = 0;
};

struct FactsOptions {
  std::string model_ref, model_path, chat_template_file;
};
/// Not for the event loop: reads files and parses the template. Errors: those of files and the template.
[[nodiscard]] Result<ModelFacts> read_facts(const LoadedModel& model, const FactsOptions& options);

}  // namespace llorch::worker
