// Events of the native stream, from events of the engine (J-30 to J-35).
#pragma once

#include <boost/json.hpp>
#include <cmath>

#include "worker/receipt.h"
#include "worker/worker.h"

namespace llorch::worker {

/// The effective sampling set, as `started.params` reports it (W-15).
[[nodiscard]] boost::json::object effective_params(const GenerateRequest& request);
/// Spelling of a token for logprobs; bytes that are no whole character are replaced there, and exact in `bytes`.
[[nodiscard]] std::string token_text(const Tokenizer& tokenizer, TokenId id);
/// Of a log probability, what JSON can say.
[[nodiscard]] inline double finite_logprob(double logprob) { return std::isfinite(logprob) ? logprob : -9999.0; }
/// {token, logprob, bytes}, with top_logprobs when there are some (J-61).
[[nodiscard]] boost::json::object logprob_entry(const Tokenizer& tokenizer, TokenId id, double logprob);

/// What the background thread made of a request: good, or what to answer.
template<class Request>
struct Prepared {
  bool good = false;
  Error error;
  boost::json::object details;
  std::string param;
  Request request;
  std::vector<TokenIds> prompts;
  std::shared_ptr<Constraint> constraint;  // what the answer must look like
  std::optional<ThoughtLimit> thought;
  std::size_t dropped = 0;  // tokens that `truncation` took off the prompts

  /// Parses and checks a body, whose deadline tightens the bound. `reader`: of a JSON object and bounds, gives the
  /// request or what it breaks. False: the answer is ready.
  template<class Reader>
  bool read(const std::string& text, const wire::Bounds& bounds, PrepareBound& bound, const Reader& reader) {
    WorkLimit limit = bound.limit(limits::kReadUnitsMax);
    const auto body = wire::parse_body(text, &limit);
    if (!body) return error = bound.explained(body.error()), false;
    if (!take(reader(*body, bounds))) return false;
    bound.tighten(request.deadline_ms);
    if (const Status s = limit.charge(text.size()); !s) return error = bound.explained(s.error()), false;
    return true;
  }
  /// Takes the request over; false: it breaks a rule, and the answer is ready.
  bool take(std::expected<Request, wire::Refused> read) {
    if (read) return request = *std::move(read), true;
    const auto& violations = read.error().violations;
    error = wire::violation_error(violations), details = wire::violation_details(violations),
    param = violations.front().field;
    return false;
  }
  /// Compiles what the answer must look like; `thoughts`: the model may think before it answers.
  bool constrain(const Worker& w, bool thoughts) {
    const wire::Structure& asked = request.structure;
    const ModelFacts& m = w.model();
    AnswerForm form{asked};
    // A pattern or a grammar holds the whole answer, calls in it or not.
    const bool whole = asked.kind == wire::Structure::Kind::kRegex || asked.kind == wire::Structure::Kind::kGbnf;
    if constexpr (requires { request.tool_use; })
      if (request.tool_use.may_call()) {
        if (whole && request.tool_use.choice == wire::ToolUse::Choice::kRequired) {
          error = {ErrorCode::kUnsupportedValue,
                   "tool_choice asks for a call and " + asked.field + " for something else"};
          return param = "tool_choice", false;
        }
        if (!whole) form.tools = &request.tool_use;
      }
    if (asked.kind == wire::Structure::Kind::kNone && !form.tools) return true;
    if (thoughts) form.before = Reasoning::before_answer(m.reasoning, m.renderer.end_of(prompts.front()));
    auto made = m.structures->compile(form);
    if (!made) {
      error = std::move(made).error();
      param = form.tools && error.message.starts_with("tools:") ? "tools" : asked.field;
      return false;
    }
    constraint = *std::move(made);
    if constexpr (requires { request.tool_use; }) {
      using enum wire::ToolUse::Choice;
      // A call in another way than the grammar's may stand in text that is free.
      const bool one_way = m.tools->other_calls.empty() || request.tool_use.choice == kRequired;
      request.tool_use.held = form.tools && constraint && one_way;
    }
    request.structure.text.clear(), request.structure.choices.clear();
    return true;
  }
  bool take(Result<TokenIds> ids) {
    if (ids) return prompts.push_back(*std::move(ids)), true;
    error = std::move(ids).error();
    return false;
  }
  /// Prompts of completions and embeddings, each a text or ids.
  bool take(const PromptRenderer& renderer, const std::vector<wire::Prompt>& given, EncodeOptions options,
            const PrepareBound& bound) {
    for (const wire::Prompt& prompt : given) {
      const std::string* text = std::get_if<std::string>(&prompt);
      if (!take(text ? renderer.text(*text, options, bound) : Result<TokenIds>(std::get<wire::Tokens>(prompt))))
        return false;
    }
    return true;
  }
};

/// A job whose one reader is the request that made it: it ends with the request, and its failure is the answer.
void answer_whole(Worker& w, const PromptRequestPtr& r, const job::JobPtr& job);

/// How a job's log is written to whoever reads it as a stream, by the API that made the job.
[[nodiscard]] service::Framing framing_of(const job::Job& job);

/// X-Llorch-Sampling: what an answer is sampled with, as "temperature=0.8, top_p=0.95, top_k=40, min_p=0.05"; penalties
/// where there are some.
void name_sampling(const SamplingParams& sampling, net::Headers& headers);

/// X-Llorch-Ignored, where there is something to name (J-54): the first 1024 bytes of it.
void name_ignored(const wire::Generation& asked, net::Headers& headers);

/// Admission by the request's head; when its body is there `prepare` on a background thread, then `submit` on the loop,
/// unless the client has left. Where `prepare` takes a fourth argument, it is the principal's id.
template<class Request, class... Principal>
service::HeadHandler prepare_and_submit(Worker& w,
                                        Prepared<Request> (*prepare)(const Worker&, const std::string&, PrepareBound,
                                                                     Principal...),
                                        void (*submit)(Worker&, const PromptRequestPtr&, Prepared<Request>&)) {
  return [&w, prepare, submit](const service::ContextPtr& head) -> service::Handler {
    const PromptRequestPtr r = w.intake().open(head);
    if (!r) return {};
    return [&w, r, prepare, submit](const service::ContextPtr& c) {
      const auto p = std::make_shared<Prepared<Request>>();
      w.intake().prepare(
          r,
          [&w, c, p, prepare](const PrepareBound& bound) {
            if constexpr (sizeof...(Principal) > 0)
              *p = prepare(w, c->request.body, bound, c->principal.id);
            else
              *p = prepare(w, c->request.body, bound);
          },
          [&w, p, submit](const PromptRequestPtr& prepared) {
            if (!p->good) return prepared->fail(p->error, p->details, p->param);
            submit(w, prepared, *p);
          });
    };
  };
}

/// Times of one generation, observed where its events arrive, for metrics.
class Stopwatch {
 public:
  explicit Stopwatch(Metrics& metrics, net::Clock::time_point accepted)
      : metrics_(metrics), accepted_(accepted), last_(accepted) {}
  void observe(const EngineEvent& event);

 private:
  Metrics& metrics_;
  net::Clock::time_point accepted_, last_;
  bool first_ = true;
};

/// The engine's request of what a client asked for. `room`: tokens that fit after the prompt.
[[nodiscard]] GenerateRequest make_request(const wire::Generation& asked, TokenIds prompt, int max_tokens,
                                           std::uint64_t seed, const std::string& principal);
/// Why an answer has no receipt, where it was asked for one: only what the engine alone decides can be computed again.
[[nodiscard]] std::optional<Error> no_receipt(const wire::Generation& asked, bool constrained, bool thought);
/// Of a request that asks for one. `conversation`: the chat template made its prompt.
[[nodiscard]] std::optional<Receipt> begin_receipt(const Worker& w, const GenerateRequest& request, bool conversation);
/// As its answer's end carries it. Its model_sha256 is empty as long as the worker has not read the whole model.
[[nodiscard]] boost::json::object end_receipt(const Worker& w, Receipt& receipt);
/// The beginning of a prompt is shared only between requests of the same salt: of one key, under one name that its
/// client gave (the queen's gives her principal's). The length keeps the two apart (E-15, S-72).
[[nodiscard]] std::string cache_salt(const std::string& principal, const std::string& given);
[[nodiscard]] std::uint64_t seed_of(const wire::Generation& asked);
/// Details of context_length_exceeded (J-03).
[[nodiscard]] boost::json::object context_details(std::size_t prompt_tokens, int max_tokens, int context);

}  // namespace llorch::worker
