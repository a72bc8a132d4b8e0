// OpenAI's embeddings: one vector for each input, pooled as the model file states, of length 1 (J-65).
#include <openssl/evp.h>

#include "worker/inference.h"

namespace llorch::worker {
namespace {

using service::ContextPtr;
using PreparedEmbedding = Prepared<wire::EmbeddingRequest>;

PreparedEmbedding prepare_embedding(const Worker& w, const std::string& text, PrepareBound bound) {
  PreparedEmbedding p;
  if (!p.read(text, w.bounds(), bound, wire::read_embedding)) return p;
  p.good = p.take(w.model().renderer, p.request.prompts, {.add_special = true}, bound);
  p.request.prompts.clear();
  return p;
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

/// Collects the vectors of one request and answers when the last is there.
struct Answer : std::enable_shared_from_this<Answer> {
  Answer(Worker& worker, PromptRequestPtr request, job::JobPtr its_job, const wire::EmbeddingRequest& asked,
         std::size_t count)
      : w(worker),
        r(std::move(request)),
        job(std::move(its_job)),
        base64(asked.base64),
        adapter(asked.adapter),
        vectors(count) {}

  Worker& w;
  PromptRequestPtr r;
  job::JobPtr job;
  bool base64;
  int adapter;
  std::vector<std::vector<float>> vectors;
  net::Response response;
  std::size_t ended = 0;
  int tokens = 0;

  void operator()(std::size_t i, const EngineEvent& event) {
    if (const auto* started = std::get_if<StartedEvent>(&event)) {
      w.jobs().start(*job, std::chrono::system_clock::now());
      tokens += started->tokens_in;
      w.runner().narrate(job, "execute_start", fmt::format("computing {} tokens for an embedding", started->tokens_in));
    } else if (const auto* embedding = std::get_if<EmbeddingEvent>(&event)) {
      vectors[i] = embedding->values;
    } else if (const auto* error = std::get_if<Error>(&event)) {
      w.runner().fail(job, *error);
    } else if (std::holds_alternative<EndEvent>(event) && ++ended == vectors.size()) {
      send();
    }
  }
  void send() {
    // Up to 64 vectors of some thousand numbers: not on the loop.
    w.intake().background().run([self = shared_from_this()] { self->write(); },
                                [self = shared_from_this()](const Status& done) {
                                  if (!done) return self->w.runner().fail(self->job, done.error());
                                  if (self->job->finished()) return;  // the client left, or its time was over
                                  self->w.runner().finish(self->job, "end", "{}");
                                  if (self->r->has_key()) self->r->answered(self->job->id, self->response);
                                  self->r->c->reply(std::move(self->response));
                                });
  }
  void write() {
    boost::json::array data;
    for (std::size_t i = 0; i < vectors.size(); ++i) {
      boost::json::object o{{"object", "embedding"}, {"index", i}};
      if (base64)
        o["embedding"] = base64_of(vectors[i]);
      else
        o["embedding"] = boost::json::array(vectors[i].begin(), vectors[i].end());
      data.push_back(std::move(o));
    }
    response.body =
        boost::json::serialize(boost::json::object{{"object", "list"},
                                                   {"data", std::move(data)},
                                                   {"model", w.model().served_as(adapter)},
                                                   {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}});
  }
};

void submit_embedding(Worker& w, const PromptRequestPtr& r, PreparedEmbedding& p) {
  if (!w.intake().grow(*r, static_cast<int>(p.prompts.size()), "input")) return;
  const int context = w.model().context;
  for (const TokenIds& prompt : p.prompts)
    if (static_cast<int>(prompt.size()) > context)
      return r->fail(
          {ErrorCode::kContextLengthExceeded,
           fmt::format("This model's maximum context length is {} tokens; an input has {}", context, prompt.size())},
          context_details(prompt.size(), 0, context), "input");
  const std::string& principal = r->c->principal.id;
  const auto job = w.jobs().create({.principal = principal, .operation = "embedding"}, net::Clock::now(),
                                   std::chrono::system_clock::now());
  const auto answer = std::make_shared<Answer>(w, r, job, p.request, p.prompts.size());
  std::vector<Generation> generations;
  for (std::size_t i = 0; i < p.prompts.size(); ++i) {
    GenerateRequest request;
    request.prompt = std::move(p.prompts[i]);
    request.embedding = w.model().pooling, request.adapter = p.request.adapter;
    request.cache_salt = cache_salt(principal, p.request.cache_salt);
    generations.push_back({std::move(request), [answer, i](const EngineEvent& e) { (*answer)(i, e); }});
  }
  if (w.runner().run(job, std::move(generations), *r, p.request.deadline_ms)) answer_whole(w, r, job);
}

}  // namespace

void add_route_embeddings(Worker& w) {
  for (const std::string prefix : {"/v1", ""})
    w.router().route_by_head<service::Scope::kInfer>("POST", prefix + "/embeddings",
                                                     prepare_and_submit(w, prepare_embedding, submit_embedding));
}

}  // namespace llorch::worker
