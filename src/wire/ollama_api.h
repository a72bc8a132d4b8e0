// Ollama's /api/chat and /api/generate, read into the request that Chat Completions make. Violations name the fields
// that the client wrote.
//
// Source: Ollama's public API documentation (docs/api.md of its repository), as of version 0.12.
#pragma once

#include "wire/requests.h"

namespace llorch::wire {

/// Options without a counterpart here are named as ignored (`options.num_gpu`); pictures are refused.
[[nodiscard]] std::expected<CompletionRequest, Refused> read_ollama_chat(const boost::json::object& body,
                                                                         const Bounds& bounds);
/// The prompt is one user message. Refused: `raw`, `suffix`, `template`, `context`.
[[nodiscard]] std::expected<CompletionRequest, Refused> read_ollama_generate(const boost::json::object& body,
                                                                             const Bounds& bounds);

/// `input` as OpenAI's embeddings take it; `truncate` is ignored.
[[nodiscard]] std::expected<EmbeddingRequest, Refused> read_ollama_embed(const boost::json::object& body,
                                                                         const Bounds& bounds);

}  // namespace llorch::wire
