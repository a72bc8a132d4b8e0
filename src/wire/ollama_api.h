// Ollama's /api/chat, /api/generate and /api/embed, read into the request that Chat Completions make. Violations name
// the fields that the client wrote.
//
// Source: Ollama's public API documentation (docs/api.md of its repository), as of version 0.12.
#pragma once

#include "wire/requests.h"

namespace llorch::wire {

/// Of the API that is spoken; front ends ask for it before they use one of its parts.
inline constexpr const char* kOllamaVersion = "0.12.0";

/// A name without ":latest", that API's word for a name without a tag.
[[nodiscard]] std::string_view untagged(std::string_view model);
[[nodiscard]] boost::json::object ollama_details(const std::string& quant);
/// A model in a list. `size`: bytes, 0 where it is not known.
[[nodiscard]] boost::json::object ollama_model(const std::string& name, std::int64_t size, const std::string& quant);
/// What that API calls the capabilities of a worker's model. "embedding" has a model that does nothing else.
[[nodiscard]] boost::json::array ollama_capabilities(const std::vector<std::string>& of_worker);

/// `options.num_predict` is a limit where it is above 0; with 0 and less there is none, as in Ollama itself.
/// Options without a counterpart here are named as ignored (`options.num_gpu`); pictures are refused. Without a
/// message, and below without a prompt, `loads` is set.
[[nodiscard]] std::expected<CompletionRequest, Refused> read_ollama_chat(const boost::json::object& body,
                                                                         const Bounds& bounds);
/// The prompt is one user message, or for a model without a chat template the text that it completes. Refused: `raw`,
/// `suffix`, `template`, `context`.
[[nodiscard]] std::expected<CompletionRequest, Refused> read_ollama_generate(const boost::json::object& body,
                                                                             const Bounds& bounds);

/// `input` as OpenAI's embeddings take it; `truncate`: true unless it says otherwise.
[[nodiscard]] std::expected<EmbeddingRequest, Refused> read_ollama_embed(const boost::json::object& body,
                                                                         const Bounds& bounds);
/// Of the older /api/embeddings: one text, `prompt`.
[[nodiscard]] std::expected<EmbeddingRequest, Refused> read_ollama_embeddings(const boost::json::object& body,
                                                                              const Bounds& bounds);

}  // namespace llorch::wire
