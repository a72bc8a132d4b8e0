// POST /v1/rerank, in the fields of Jina's and Cohere's: how relevant each of some documents is to a query, as the
// classification head of a cross-encoder says of the pair.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "worker/vectors.h"

namespace llorch::worker {
namespace {

/// With where the second text of each prompt begins.
struct Rerank : wire::RerankRequest {
  std::vector<int> second_texts;
  Rerank() = default;
  Rerank(wire::RerankRequest read) : wire::RerankRequest(std::move(read)) {}
};
using PreparedRerank = Prepared<Rerank>;

PreparedRerank prepare_rerank(const Worker& w, const std::string& text, PrepareBound bound) {
  PreparedRerank p;
  const auto read = [](const boost::json::object& body,
                       const wire::Bounds& bounds) -> std::expected<Rerank, wire::Refused> {
    auto asked = wire::read_rerank(body, bounds);
    if (!asked) return std::unexpected(std::move(asked.error()));
    return Rerank(*std::move(asked));
  };
  if (!p.read(text, w.bounds(), bound, read)) return p;
  const auto refuse = [&p](std::string why) {
    p.error = {ErrorCode::kUnsupportedValue, "this model gives no relevance scores: " + std::move(why)};
    p.param = "model";
    return std::move(p);
  };
  const ModelFacts& m = w.model();
  if (m.labels == 0) return refuse("it is no reranker with a classification head");
  if (m.labels != 1) return refuse(fmt::format("its classification head has {} labels, not one", m.labels));
  if (!m.second_type) return refuse("its tokenizer puts pairs of texts together in another way than texts alone");
  const auto fail = [&p](Error error, const char* field) {
    p.error = std::move(error), p.param = field;
    return std::move(p);
  };
  const EncodeOptions special{.add_special = true};
  const auto query = m.renderer.text(p.request.query, special, bound);
  if (!query) return fail(query.error(), "query");
  if (!fits_context(p, m, *query, "the query", "query")) return p;
  for (const std::string& document : p.request.documents) {
    const auto ids = m.renderer.text(document, special, bound);
    if (!ids) return fail(ids.error(), "documents");
    TokenIds& pair = p.prompts.emplace_back();
    pair.reserve(query->size() + ids->size());
    pair = *query;
    pair.insert(pair.end(), ids->begin() + static_cast<std::ptrdiff_t>(m.before_text), ids->end());
    if (!fits_context(p, m, pair, "the query with one of the documents", "documents")) return p;
    p.request.second_texts.push_back(*m.second_type > 0 ? static_cast<int>(query->size()) : 0);
  }
  p.good = true;
  return p;
}

boost::json::object answer(const Worker& w, const wire::RerankRequest& request,
                           const std::vector<std::vector<float>>& scores, int tokens) {
  std::vector<std::size_t> ranked(scores.size());
  std::iota(ranked.begin(), ranked.end(), std::size_t{0});
  std::ranges::stable_sort(ranked, std::greater<>(), [&](std::size_t i) { return scores[i].front(); });
  if (request.top_n) ranked.resize(std::min(ranked.size(), static_cast<std::size_t>(*request.top_n)));
  boost::json::array results;
  for (const std::size_t i : ranked) {
    const double logit = static_cast<double>(scores[i].front());
    boost::json::object o{{"index", i}, {"relevance_score", 1 / (1 + std::exp(-logit))}};
    if (request.return_documents) o["document"] = {{"text", request.documents[i]}};
    results.push_back(std::move(o));
  }
  return {{"object", "list"},
          {"model", w.model().served_as(request.adapter)},
          {"results", std::move(results)},
          {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}};
}

void submit_rerank(Worker& w, const PromptRequestPtr& r, PreparedRerank& p) {
  VectorRequest vectors{"rerank", "documents", std::move(p.prompts), std::move(p.request.second_texts), {}};
  if (!p.request.return_documents) p.request.documents.clear();
  const wire::Generation generation = p.request;
  vectors.write = [&w, request = wire::RerankRequest(std::move(p.request))](
                      const std::vector<std::vector<float>>& scores, int tokens) {
    return answer(w, request, scores, tokens);
  };
  submit_vectors(w, r, generation, std::move(vectors));
}

}  // namespace

void add_route_rerank(Worker& w) {
  for (const std::string prefix : {"/v1", ""})
    w.router().route_by_head<service::Scope::kInfer>("POST", prefix + "/rerank",
                                                     prepare_and_submit(w, prepare_rerank, submit_rerank));
}

}  // namespace llorch::worker
