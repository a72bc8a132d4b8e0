// OpenAI's embeddings: one vector for each input, pooled as the model file states, of length 1 (J-65).
#include <openssl/evp.h>

#include "worker/vectors.h"

namespace llorch::worker {
namespace {

using PreparedEmbedding = Prepared<wire::EmbeddingRequest>;

PreparedEmbedding prepare_embedding(const Worker& w, const std::string& text, PrepareBound bound) {
  return prepare_vectors(w, text, bound, wire::read_embedding);
}

/// Little-endian floats in base64.
std::string base64_of(const std::vector<float>& values) {
  std::string out((values.size() * sizeof(float) + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(values.data()),
                                   static_cast<int>(values.size() * sizeof(float)));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

void submit_embedding(Worker& w, const PromptRequestPtr& r, PreparedEmbedding& p) {
  const auto write = [&w, base64 = p.request.base64, adapter = p.request.adapter](
                         const std::vector<std::vector<float>>& vectors, int tokens) {
    boost::json::array data;
    for (std::size_t i = 0; i < vectors.size(); ++i) {
      boost::json::object o{{"object", "embedding"}, {"index", i}};
      if (base64)
        o["embedding"] = base64_of(vectors[i]);
      else
        o["embedding"] = boost::json::array(vectors[i].begin(), vectors[i].end());
      data.push_back(std::move(o));
    }
    return boost::json::object{{"object", "list"},
                               {"data", std::move(data)},
                               {"model", w.model().served_as(adapter)},
                               {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}};
  };
  submit_vectors(w, r, p.request, {"embedding", "input", std::move(p.prompts), {}, write});
}

}  // namespace

void add_route_embeddings(Worker& w) {
  for (const std::string prefix : {"/v1", ""})
    w.router().route_by_head<service::Scope::kInfer>("POST", prefix + "/embeddings",
                                                     prepare_and_submit(w, prepare_embedding, submit_embedding));
}

}  // namespace llorch::worker
