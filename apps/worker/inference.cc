#include "worker/inference.h"

#include <cmath>
#include <random>

#include "base/ids.h"
#include "text/utf8.h"
#include "worker/backend.h"
#include "worker/model_flags.h"

namespace llorch::worker {

boost::json::object effective_params(const GenerateRequest& r) {
  const SamplingParams& s = r.sampling;
  boost::json::object bias;
  for (const auto& [id, value] : s.logit_bias) bias[std::to_string(id)] = value;
  return {{"max_tokens", r.max_tokens},
          {"temperature", s.temperature},
          {"top_p", s.top_p},
          {"top_k", s.top_k},
          {"min_p", s.min_p},
          {"repetition_penalty", s.repetition_penalty},
          {"presence_penalty", s.presence_penalty},
          {"frequency_penalty", s.frequency_penalty},
          {"seed", s.seed},
          {"stop", boost::json::array(r.stop.begin(), r.stop.end())},
          {"ignore_eos", r.ignore_eos},
          {"logit_bias", std::move(bias)},
          {"top_logprobs", s.top_logprobs}};
}

std::string token_text(const Tokenizer& tokenizer, TokenId id) {
  const std::string_view piece = tokenizer.piece(id, true);
  if (utf8_valid(piece)) return std::string(piece);
  std::string out;
  for (const char c : piece)
    out += static_cast<unsigned char>(c) < 0x80 ? std::string(1, c)
                                                : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

boost::json::object logprob_entry(const Tokenizer& tokenizer, TokenId id, double logprob) {
  boost::json::array bytes;
  for (const char c : tokenizer.piece(id, true)) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", token_text(tokenizer, id)}, {"logprob", finite_logprob(logprob)}, {"bytes", std::move(bytes)}};
}

void Stopwatch::observe(const EngineEvent& event) {
  const auto now = net::Clock::now();
  const auto ms = [&](net::Clock::time_point since) {
    return std::chrono::duration<double, std::milli>(now - since).count();
  };
  if (const auto* started = std::get_if<StartedEvent>(&event)) {
    metrics_.queue_wait_ms.Observe(ms(accepted_));
    metrics_.tokens_in.Increment(started->tokens_in);
    if (started->cached_tokens > 0)
      metrics_.prefix_hits.Increment(), metrics_.prefix_tokens.Increment(started->cached_tokens);
  } else if (std::holds_alternative<TokenEvent>(event)) {
    (first_ ? metrics_.first_token_ms : metrics_.inter_token_ms).Observe(ms(first_ ? accepted_ : last_));
    first_ = false;
    last_ = now;
    metrics_.tokens_generated.Increment(), metrics_.tokens_out.Increment();
  } else if (const auto* end = std::get_if<EndEvent>(&event)) {
    metrics_.inference_ms.Observe(ms(accepted_));
    metrics_.decode_ms.Observe(end->decode_ms);
    if (end->prefill_ms > 0)
      metrics_.prefill_rate.Observe((end->tokens_in - end->cached_tokens) * 1000.0 / end->prefill_ms);
    if (end->decode_ms > 0) metrics_.decode_rate.Observe((end->tokens_out - 1) * 1000.0 / end->decode_ms);
  }
}

void answer_whole(Worker& w, const PromptRequestPtr& r, const job::JobPtr& job) {
  job->ever_attached = true;
  job->options.cancelled_by_disconnect = false;
  // The job outlives the request, and must not keep its body.
  job->on_ended = [weak = std::weak_ptr(r)](const Error& error) {
    if (const auto alive = weak.lock()) alive->fail(error);
  };
  r->c->exchange->on_gone = [&w, job] { w.runner().cancel(job); };
}

service::Framing framing_of(const job::Job& job) {
  const std::string& operation = job.options.operation;
  if (operation == "infer") return service::Framing::kSse;
  if (operation.starts_with("api/")) return service::Framing::kLines;
  if (operation == "messages" || operation == "responses") return service::Framing::kEvents;
  return job.options.resumable ? service::Framing::kOpenAiResumable : service::Framing::kOpenAi;
}

void name_sampling(const SamplingParams& s, net::Headers& headers) {
  std::string text =
      fmt::format("temperature={}, top_p={}, top_k={}, min_p={}", s.temperature, s.top_p, s.top_k, s.min_p);
  if (s.repetition_penalty != 1) text += fmt::format(", repetition_penalty={}", s.repetition_penalty);
  if (s.presence_penalty != 0) text += fmt::format(", presence_penalty={}", s.presence_penalty);
  if (s.frequency_penalty != 0) text += fmt::format(", frequency_penalty={}", s.frequency_penalty);
  headers.add("X-Llorch-Sampling", text);
}

void name_ignored(const wire::Generation& asked, net::Headers& headers) {
  constexpr std::size_t kBytesMax = 1024;
  std::string names;
  for (const std::string& field : asked.ignored) {
    if (names.size() >= kBytesMax) break;
    names += names.empty() ? "" : ", ";
    names += std::string_view(field).substr(0, kBytesMax);
  }
  if (!names.empty()) headers.add("X-Llorch-Ignored", names.substr(0, kBytesMax));
}

std::string cache_salt(const std::string& principal, const std::string& given) {
  return fmt::format("{}:{}|{}", principal.size(), principal, given);
}

std::uint64_t seed_of(const wire::Generation& asked) {
  if (asked.seed) return *asked.seed;
  std::random_device device;
  return device() | static_cast<std::uint64_t>(device()) << 32;
}

GenerateRequest make_request(const wire::Generation& asked, TokenIds prompt, int max_tokens, std::uint64_t seed,
                             const std::string& principal) {
  GenerateRequest r;
  r.prompt = std::move(prompt);
  r.sampling = asked.sampling;
  r.sampling.seed = seed;
  r.max_tokens = max_tokens;
  r.stop = asked.stop;
  r.ignore_eos = asked.ignore_eos;
  if (asked.receipt) r.hash_every = kReceiptEvery;
  r.adapter = asked.adapter;
  r.cache_salt = cache_salt(principal, asked.cache_salt);
  return r;
}

std::optional<Error> no_receipt(const wire::Generation& asked, bool constrained, bool thought) {
  if (!asked.receipt) return std::nullopt;
  const char* why = constrained             ? "whose form or tools a grammar holds"
                    : thought               ? "with a budget for thoughts"
                    : asked.adapter >= 0    ? "of a model with an adapter"
                    : asked.max_tokens == 0 ? "without tokens"
                                            : nullptr;
  if (!why) return std::nullopt;
  return Error{ErrorCode::kUnsupportedValue, fmt::format("receipt: there is none of an answer {}", why)};
}

std::optional<Receipt> begin_receipt(const Worker& w, const GenerateRequest& request, bool conversation) {
  if (request.hash_every == 0) return std::nullopt;
  const ServeOptions& o = w.options();
  Receipt r;
  r.model = w.model().id, r.build_id = LLORCH_VERSION, r.device = backend().device();
  r.isa = backend().isa(w.loaded().device->isa()), r.arithmetic = arithmetic_of(r.device, r.isa);
  r.kv_type = kv_name(o.engine.engine.kv);
  if (conversation) r.template_sha256 = w.model().template_sha256;
  r.request.prompt = request.prompt, r.request.sampling = request.sampling, r.request.stop = request.stop;
  r.request.max_tokens = request.max_tokens, r.request.ignore_eos = request.ignore_eos;
  return r;
}

boost::json::object end_receipt(const Worker& w, Receipt& receipt) {
  receipt.model_sha256 = w.model().hash;
  return to_json(receipt);
}

boost::json::object context_details(std::size_t prompt_tokens, int max_tokens, int context) {
  return {{"prompt_tokens", prompt_tokens}, {"max_tokens", max_tokens}, {"context_length", context}};
}

}  // namespace llorch::worker
