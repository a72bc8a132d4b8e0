// Requests whose answer is made from one vector for each of some prompts: embeddings and rerank.
#pragma once

#include <functional>

#include "worker/inference.h"

namespace llorch::worker {

struct VectorRequest {
  std::string operation;  // of the job
  std::string field;      // of the request, that the prompts come from
  std::vector<TokenIds> prompts;
  std::vector<int> second_texts;  // of pairs (GenerateRequest::second_text), or empty
  /// The answer's body, from the vectors in the order of the prompts and the prompts' tokens. Not on the loop.
  std::function<boost::json::object(const std::vector<std::vector<float>>& vectors, int tokens)> write;
};

/// Computes them and answers when the last is there.
void submit_vectors(Worker& w, const PromptRequestPtr& r, const wire::Generation& generation, VectorRequest request);

}  // namespace llorch::worker
