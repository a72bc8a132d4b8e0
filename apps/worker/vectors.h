// Requests whose answer is made from one vector for each of some prompts: embeddings and rerank.
#pragma once

#include <functional>

#include "worker/inference.h"

namespace llorch::worker {

struct VectorRequest {
  std::string operation;          // of the job
  std::string field;              // of the request, that the prompts come from
  std::vector<TokenIds> prompts;  // that fit the context
  std::vector<int> second_texts;  // of pairs (GenerateRequest::second_text), or empty
  /// The answer's body, from the vectors in the order of the prompts and the prompts' tokens. Not on the loop.
  std::function<boost::json::object(const std::vector<std::vector<float>>& vectors, int tokens)> write;
};

/// Whether a prompt fits the context; else `p` is told, and is no good. `what`: "an input".
template<class Request>
[[nodiscard]] bool fits_context(Prepared<Request>& p, const ModelFacts& model, const TokenIds& prompt,
                                std::string_view what, std::string_view field) {
  if (prompt.size() <= static_cast<std::size_t>(model.context)) return true;
  p.good = false, p.param = field;
  p.error = {
      ErrorCode::kContextLengthExceeded,
      fmt::format("This model's maximum context length is {} tokens; {} has {}", model.context, what, prompt.size())};
  p.details = context_details(prompt.size(), 0, model.context);
  return false;
}

/// A prompt that is longer loses the end of its text, but not the `behind` tokens that the model expects at its end.
inline void cut_to_context(TokenIds& prompt, std::size_t context, std::size_t behind) {
  if (prompt.size() <= context || behind > context) return;
  prompt.erase(prompt.begin() + static_cast<std::ptrdiff_t>(context - behind),
               prompt.end() - static_cast<std::ptrdiff_t>(behind));
}

/// Reads a request for vectors by `reader`, and its prompts' tokens.
template<class Reader>
[[nodiscard]] Prepared<wire::EmbeddingRequest> prepare_vectors(const Worker& w, const std::string& text,
                                                               PrepareBound bound, const Reader& reader) {
  Prepared<wire::EmbeddingRequest> p;
  if (!p.read(text, w.bounds(), bound, reader)) return p;
  if (w.model().labels > 0) {
    p.error = {ErrorCode::kUnsupportedValue, "this model scores pairs of texts (/v1/rerank): it gives no vectors"};
    return p.param = "model", p;
  }
  p.good = p.take(w.model().renderer, p.request.prompts, {.add_special = true}, bound);
  p.request.prompts.clear();
  if (p.good && p.request.truncate) {
    const auto none = w.model().renderer.text("", {.add_special = true}, bound);
    const std::size_t behind = none ? none->size() - std::min(none->size(), w.model().before_text) : 0;
    for (TokenIds& prompt : p.prompts) cut_to_context(prompt, static_cast<std::size_t>(w.model().context), behind);
  }
  for (const TokenIds& prompt : p.prompts)
    if (!fits_context(p, w.model(), prompt, "an input", "input")) break;
  return p;
}

/// Computes them and answers when the last is there.
void submit_vectors(Worker& w, const PromptRequestPtr& r, const wire::Generation& generation, VectorRequest request);

}  // namespace llorch::worker
