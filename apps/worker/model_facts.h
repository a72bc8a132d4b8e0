// Facts about the model that is served, measured when it was loaded.
#pragma once

#include <string>

#include "engine/engine.h"
#include "engine/loaded_model.h"
#include "tools/format.h"
#include "worker/default_sampling.h"
#include "worker/prompt_renderer.h"
#include "worker/reasoning.h"
#include "worker/structures.h"

namespace llorch::worker {

struct ModelFacts {
  std::vector<std::string> adapters;                                  // their names, by their numbers
  std::string id, quant_kind, tokenizer_kind, template_sha256, hash;  // hash: SHA-256 of the file, empty until known
  std::string fingerprint;                                            // LoadedModel::fingerprint
  int vocab = 0, context = 0;
  bool generates = true;  // false: an encoder, which gives no text
  DefaultSampling sampling;
  PromptRenderer renderer;
  std::optional<PromptRenderer> tool_renderer;  // for requests with tools, where the model has a template for these
  Reasoning::Style reasoning = Reasoning::Style::kNone;
  std::shared_ptr<const tools::ToolFormat> tools;  // how it writes calls of tools
  std::vector<std::string> tool_controls;          // control tokens in that format, by their spelling
  std::shared_ptr<Structures> structures;
  Pooling pooling = Pooling::kMean;
  std::size_t labels = 0;                    // of its classification head; 0: it has none
  std::optional<int> second_type;            // of pairs (Tokenizer::second_type)
  std::size_t before_text = 0;               // tokens that are put before a text
  std::int64_t created = 0, file_bytes = 0;  // file_bytes: of the model's files

  /// By which clients know the model with an adapter (its number; -1: alone).
  [[nodiscard]] std::string served_as(int adapter) const {
    return adapter < 0 ? id : id + ":" + adapters[static_cast<std::size_t>(adapter)];
  }
};

/// What the model is good for: text-gen, chat (it has a template), embedding, rerank, tools (its template shows their
/// calls), thinking (its template has marks of thoughts).
[[nodiscard]] boost::json::array capabilities(const ModelFacts& model);

struct FactsOptions {
  std::string model_ref, model_path, chat_template_file;
  SamplingSettings sampling;
};
struct ChatTemplate {
  std::string source;      // empty: the model has none
  std::string with_tools;  // for requests with tools, where the model has another one for these
  [[nodiscard]] const std::string& shows_tools() const { return with_tools.empty() ? source : with_tools; }
  std::string bos, eos;  // what bos_token and eos_token are in it
};
/// `path`: the model's; `instead`: a file to use instead of the model's own template, or empty. Errors: those of files.
[[nodiscard]] Result<ChatTemplate> read_chat_template(const WeightSource& source, const Tokenizer& tokenizer,
                                                      const std::string& path, const std::string& instead);

/// Not for the event loop: reads files and parses the template. Errors: those of files and the template.
[[nodiscard]] Result<ModelFacts> read_facts(const LoadedModel& model, const FactsOptions& options);

}  // namespace llorch::worker
