// POST /v1/inference makes a job; GET its stream, GET its state, DELETE it, GET the list (J-10 to J-21).
#include "worker/inference.h"
#include "base/ids.h"
#include "tools/conversation.h"

namespace llorch::worker {
namespace {

using service::ContextPtr;
constexpr const char* kPrefix = "/v1/inference";

Prepared<wire::InferenceRequest> prepare_inference(const Worker& w, const std::string& text, PrepareBound bound) {
  Prepared<wire::InferenceRequest> p;
  if (!p.read(text, w.bounds(), bound, wire::read_inference)) return p;
  auto& r = p.request;
  const PromptRenderer& renderer = w.model().renderer;
  if (r.messages) {
    auto history = tools::prepare_history(*w.model().tools, *r.messages);
    if (!history) {
      p.error = std::move(history).error(), p.param = "messages";
      return p;
    }
    r.messages = *std::move(history);
  }
  p.good = p.take(r.messages ? renderer.chat(*r.messages, {}, bound)
                             : renderer.text(r.prompt, {.add_special = true, .parse_special = true}, bound)) &&
           p.constrain(w, r.messages.has_value());
  if (p.good && r.messages && !r.stop.empty())  // which are for the answer
    p.thought = Reasoning::limit(w.model().reasoning, w.model().renderer.end_of(p.prompts.front()),
                                 *w.loaded().tokenizer, std::nullopt, false);
  if (r.messages) r.messages.emplace();  // freed here, not on the loop
  r.prompt.clear();
  return p;
}

struct NativeStream {
  Worker& w;
  job::JobPtr job;
  std::string correlation_id;
  boost::json::object params;
  std::uint64_t seed;
  int adapter;
  bool logprobs;
  Stopwatch watch;
  std::optional<Receipt> receipt;
  std::optional<Reasoning> reasoning;  // of an answer to messages, where the model thinks

  void append(std::string type, boost::json::object fields) {
    boost::json::object o{{"type", type}, {"seq", job->log.next_seq()}};
    for (auto& [key, value] : fields) o.emplace(key, std::move(value));
    (void)w.jobs().append(*job, std::move(type), boost::json::serialize(o));
  }
  void operator()(const StartedEvent& e) {
    w.jobs().start(*job, std::chrono::system_clock::now());
    append("started", {{"job_id", job->id},
                       {"model", w.model().served_as(adapter)},
                       {"started_at", rfc3339(job->started_at)},
                       {"correlation_id", correlation_id},
                       {"seed", seed},
                       {"tokens_in", e.tokens_in},
                       {"params", params}});
    w.runner().narrate(
        job, "execute_start",
        fmt::format("computing {} prompt tokens, {} of them from the cache", e.tokens_in, e.cached_tokens),
        {{"tokens_in", e.tokens_in}});
  }
  void operator()(const TokenEvent& e) {
    if (receipt) add_token(*receipt, e.token);
    boost::json::object o{{"t", e.text}, {"i", e.index}, {"token_id", e.token.id}};
    if (logprobs) {
      o["logprob"] = e.token.logprob;
      boost::json::array top;
      for (const TokenLogprob& t : e.token.top) top.push_back(logprob_entry(*w.loaded().tokenizer, t.id, t.logprob));
      if (!top.empty()) o["top_logprobs"] = std::move(top);
    }
    if (reasoning) {
      const Tokenizer& tokenizer = *w.loaded().tokenizer;
      const bool control = tokenizer.piece(e.token.id).empty();
      const auto parts = reasoning->push(e.text, control ? tokenizer.piece(e.token.id, true) : std::string_view());
      if (!parts.reasoning.empty()) o["reasoning_content"] = parts.reasoning;
      o["content"] = parts.content;
    }
    append("token", std::move(o));
  }
  void operator()(const EmbeddingEvent&) {}
  void operator()(const PromptEvent&) {}
  void operator()(const ProgressEvent&) {}
  void operator()(const EndEvent& e) {
    w.runner().narrate(job, "execute_end",
                       fmt::format("{} tokens in {:.0f} ms", e.tokens_out, e.prefill_ms + e.decode_ms),
                       {{"tokens_out", e.tokens_out}, {"decode_time_ms", e.decode_ms}});
    boost::json::object o{{"type", "end"},
                          {"seq", job->log.next_seq()},
                          {"tokens_out", e.tokens_out},
                          {"decode_time_ms", e.decode_ms},
                          {"prefill_time_ms", e.prefill_ms},
                          {"stop_reason", name(e.reason)},
                          {"tokens_in", e.tokens_in},
                          {"context", w.model().context},
                          {"cached_tokens", e.cached_tokens},
                          {"drafted_tokens", e.drafted_tokens},
                          {"accepted_tokens", e.accepted_tokens}};
    if (e.stop_sequence) o["stop_sequence_matched"] = *e.stop_sequence;
    if (receipt) o["receipt"] = end_receipt(w, *receipt);
    if (!e.undecoded.empty()) o["undecoded_bytes"] = to_hex(e.undecoded);
    if (reasoning) {  // what could still have become a mark
      const auto parts = reasoning->finish();
      if (!parts.reasoning.empty()) o["reasoning_content"] = parts.reasoning;
      if (!parts.content.empty()) o["content"] = parts.content;
    }
    w.runner().finish(job, "end", boost::json::serialize(o));
  }
  void operator()(const Error& e) { w.runner().fail(job, e); }
};

void submit_inference(Worker& w, const PromptRequestPtr& r, Prepared<wire::InferenceRequest>& p) {
  const ContextPtr& c = r->c;
  const int context = w.model().context, room = context - static_cast<int>(p.prompts[0].size());
  const int asked = p.request.max_tokens.value_or(std::clamp(room, 1, w.options().max_tokens_out));
  const int wanted = std::min(asked, room);
  if (room < 1)
    return r->fail({ErrorCode::kContextLengthExceeded,
                    fmt::format("{} prompt tokens and {} requested tokens exceed the context of {}",
                                p.prompts[0].size(), asked, context)},
                   context_details(p.prompts[0].size(), asked, context));
  if (const auto none = no_receipt(p.request, p.constraint != nullptr, p.thought.has_value()))
    return r->fail(*none, {}, "receipt");
  const auto job =
      w.jobs().create({.principal = c->principal.id, .operation = "infer", .resumable = p.request.resumable},
                      net::Clock::now(), std::chrono::system_clock::now());
  const std::uint64_t seed = seed_of(p.request);
  std::optional<Reasoning> reasoning;
  if (const ModelFacts& m = w.model(); p.request.messages && m.reasoning != Reasoning::Style::kNone)
    reasoning.emplace(m.reasoning, m.renderer.end_of(p.prompts[0]));
  GenerateRequest request = make_request(p.request, std::move(p.prompts[0]), wanted, seed, c->principal.id);
  request.constraint = std::move(p.constraint);
  request.thought = std::move(p.thought);
  boost::json::object params = effective_params(request);
  if (request.constraint) params["structure"] = wire::name(p.request.structure.kind);
  const auto stream = std::make_shared<NativeStream>(
      NativeStream{w, job, c->correlation_id, std::move(params), seed, p.request.adapter, p.request.logprobs,
                   Stopwatch(w.metrics(), c->accepted), begin_receipt(w, request, p.request.messages.has_value()),
                   std::move(reasoning)});
  std::vector<Generation> one;
  one.push_back({std::move(request), [stream](const EngineEvent& e) {
                   stream->watch.observe(e);
                   std::visit(*stream, e);
                 }});
  if (!w.runner().run(job, std::move(one), *r, p.request.deadline_ms)) return;
  net::Response response;
  response.status = 202;
  boost::json::object made = service::created(*job, kPrefix, w.admission().waiting());
  response.body = boost::json::serialize(made);
  name_ignored(p.request, response.headers);
  name_sampling(p.request.sampling, response.headers);
  r->answered(job->id, response);
  if (w.feeds().attach(*c, job)) {
    made["fed"] = true;
    response.body = boost::json::serialize(made);
  }
  c->reply(std::move(response));
}

}  // namespace

void add_route_inference(Worker& w) {
  using service::Scope;
  w.router().route_by_head<Scope::kInfer>("POST", "/v1/inference",
                                          prepare_and_submit(w, prepare_inference, submit_inference));
  w.feeds().add_route(w.router());
  service::add_job_routes(w.router(), w.loop(), w.jobs(),
                          {.prefix = kPrefix,
                           .cancel = [&w](const job::JobPtr& j) { w.runner().cancel(j); },
                           .disconnected = [&w](const job::JobPtr& j) { w.runner().disconnected(j); },
                           .hidden = [](const job::Job& j) { return j.options.operation == "load"; },
                           .framing =
                               [](const job::Job& j) {
                                 const service::Framing own = framing_of(j);
                                 return own == service::Framing::kOpenAi ? service::Framing::kOpenAiResumable : own;
                               }});
}

}  // namespace llorch::worker
