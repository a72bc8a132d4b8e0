#include "worker/vectors.h"

namespace llorch::worker {
namespace {

/// Collects the vectors of one request.
struct VectorCollector : std::enable_shared_from_this<VectorCollector> {
  VectorCollector(Worker& worker, PromptRequestPtr request, job::JobPtr its_job, VectorRequest its_request)
      : w(worker),
        r(std::move(request)),
        job(std::move(its_job)),
        wanted(std::move(its_request)),
        vectors(wanted.prompts.size()) {}

  Worker& w;
  PromptRequestPtr r;
  job::JobPtr job;
  VectorRequest wanted;
  std::vector<std::vector<float>> vectors;
  net::Response response;
  std::size_t ended = 0;
  int tokens = 0;

  void operator()(std::size_t i, const EngineEvent& event) {
    if (const auto* started = std::get_if<StartedEvent>(&event)) {
      w.jobs().start(*job, std::chrono::system_clock::now());
      tokens += started->tokens_in;
      w.runner().narrate(job, "execute_start",
                         fmt::format("computing {} tokens for {}", started->tokens_in, wanted.operation));
    } else if (const auto* embedding = std::get_if<EmbeddingEvent>(&event)) {
      vectors[i] = embedding->values;
    } else if (const auto* error = std::get_if<Error>(&event)) {
      w.runner().fail(job, *error);
    } else if (std::holds_alternative<EndEvent>(event) && ++ended == vectors.size()) {
      send();
    }
  }
  void send() {
    // Many vectors of some thousand numbers: not on the loop.
    w.intake().background().run(
        [self = shared_from_this()] {
          self->response.body = boost::json::serialize(self->wanted.write(self->vectors, self->tokens));
        },
        [self = shared_from_this()](const Status& done) {
          if (!done) return self->w.runner().fail(self->job, done.error());
          if (self->job->finished()) return;  // the client left, or its time was over
          self->w.runner().finish(self->job, "end", "{}");
          if (self->r->has_key()) self->r->answered(self->job->id, self->response);
          self->r->c->reply(std::move(self->response));
        });
  }
};

}  // namespace

void submit_vectors(Worker& w, const PromptRequestPtr& r, const wire::Generation& generation, VectorRequest request) {
  if (!w.intake().grow(*r, static_cast<int>(request.prompts.size()), request.field)) return;
  const std::string& principal = r->c->principal.id;
  const auto job = w.jobs().create({.principal = principal, .operation = request.operation}, net::Clock::now(),
                                   std::chrono::system_clock::now());
  const auto answer = std::make_shared<VectorCollector>(w, r, job, std::move(request));
  name_ignored(generation, answer->response.headers);
  std::vector<Generation> generations;
  for (std::size_t i = 0; i < answer->wanted.prompts.size(); ++i) {
    GenerateRequest one;
    one.prompt = std::move(answer->wanted.prompts[i]);
    one.embedding = w.model().pooling, one.adapter = generation.adapter;
    if (!answer->wanted.second_texts.empty()) one.second_text = answer->wanted.second_texts[i];
    one.cache_salt = cache_salt(principal, generation.cache_salt);
    generations.push_back({std::move(one), [answer, i](const EngineEvent& e) { (*answer)(i, e); }});
  }
  if (w.runner().run(job, std::move(generations), *r, generation.deadline_ms)) answer_whole(w, r, job);
}

}  // namespace llorch::worker
